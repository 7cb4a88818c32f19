"""The contract: the numbers that must hold, each on every row of the table of architectures.

Rows are the cases of `tests.support.models`, with adapters on the linear layers only or with those
on skip connections and contractions too; `make test-long` has both of each.  Bounds are for
float64; float32 has nine digits less.
"""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from lora import inject_lora, merge_lora_weights
from lora.adapters.inject import lora_layers
from lora.adapters.products import ContractionHost, SkipHost
from lora.mace.door import upstream
from lora.mace.graphs import batches, graphs
from lora.mace.kernels import from_kernel, to_kernel
from lora.training.loop import Fit
from lora.training.state import TrainingState
from tests.support import counts
from tests.support.models import (
    BASE,
    CASES,
    OUTPUTS,
    Case,
    difference,
    make_model,
    outputs,
    structures,
)
from tests.support.models import perturb as perturbed
from tests.support.packs import EPOCHS, POINTS, of_point, packed

SLOW_ON_CUEQ = ("L2_correlation3", "reduced_couplings", "89_elements", "forbidden_coupling")
PLACES = {"linear": {}, "products": {"skip_tp": True, "symmetric_contraction": True}}
ROWS = counts.covering(CASES, PLACES)
FEW = ROWS[: counts.of(4, len(ROWS))]  # where no more than a look at the rows is wanted
pytestmark = pytest.mark.long


def also(name: str, *values: object) -> pytest.MarkDecorator:
    """Run a test on the rows, with values of one thing more: each row with one, the first all."""
    rows = counts.covering(CASES, PLACES, values)
    params = [((case, place), value) for case, place, value in rows]
    return pytest.mark.parametrize(("row", name), params, ids=counts.named(rows), indirect=["row"])


@pytest.fixture(params=ROWS, ids=counts.named(ROWS))
def row(request: pytest.FixtureRequest) -> tuple[Case, str]:
    return request.param


@pytest.fixture
def case(row: tuple[Case, str]) -> Case:
    return row[0]


@pytest.fixture
def targets(row: tuple[Case, str]) -> dict:
    return PLACES[row[1]]


@pytest.fixture
def base(case: Case) -> nn.Module:
    return make_model(case)


@pytest.fixture
def trained(base: nn.Module, targets: dict) -> nn.Module:
    """The base with adapters that are plainly not zero."""
    model = copy.deepcopy(base)
    inject_lora(model, rank=3, alpha=2.0, targets=targets)
    perturbed(model)
    return model


def bound(case: Case, value: float) -> float:
    return value if case.dtype == torch.float64 else 2e-4


def two_heads(case: Case) -> list:
    """The structures, of a model with several heads half of them for each."""
    atoms = structures()
    for i, one in enumerate(atoms):
        one.info["head"] = case.heads[i % len(case.heads)]
    return atoms


@also("scaling", "mace", "rank_stable")
def test_untrained_is_the_base(case: Case, base: nn.Module, targets: dict, scaling: str) -> None:
    model = copy.deepcopy(base)
    inject_lora(model, rank=3, alpha=2.0, scaling=scaling, targets=targets)
    before, start = outputs(base, two_heads(case)), outputs(model, two_heads(case))
    for key in OUTPUTS:
        scale = np.abs(before[key]).max()
        assert np.abs(start[key] - before[key]).max() <= bound(case, 1e-12) * scale
    perturbed(model)
    assert difference(outputs(model), before) > 1e-3  # else this would hold for nothing


def test_merged_is_the_adapter(case: Case, base: nn.Module, trained: nn.Module) -> None:
    before, adapted = outputs(base, two_heads(case)), outputs(trained, two_heads(case))
    merged = merge_lora_weights(trained, inplace=False)
    assert difference(outputs(merged, two_heads(case)), adapted) <= bound(case, 1e-9)
    assert difference(adapted, before) > 1e-3
    assert type(merged) is type(base)
    shapes = {k: v.shape for k, v in base.state_dict().items()}
    assert {k: v.shape for k, v in merged.state_dict().items()} == shapes
    assert not dict(lora_layers(merged)) and dict(lora_layers(trained))  # the original is untouched
    for (name, a), (_, b) in zip(
        merged.named_parameters(), base.named_parameters(), strict=True
    ):  # couplings that symmetry forbids stay what they are, zero
        assert a.requires_grad or not b.any(), name
        assert a.any() == b.any(), name


@also("merged", False, True)
def test_symmetries(case: Case, base: nn.Module, trained: nn.Module, merged: bool) -> None:
    model = merge_lora_weights(trained) if merged else trained
    rng = np.random.default_rng(7)
    rotation = -Rotation.random(rng=rng).as_matrix()  # a rotation times the inversion
    original, moved, order = structures(), structures(), []
    for atoms in moved:
        permutation = rng.permutation(len(atoms))
        order.append(permutation)
        atoms.positions = (atoms.positions @ rotation.T + rng.normal(size=3))[permutation]
        atoms.cell = atoms.cell @ rotation.T
        atoms.numbers = atoms.numbers[permutation]
    a, b = outputs(model, original), outputs(model, moved)
    limit = bound(case, 1e-9)
    assert np.abs(a["energy"] - b["energy"]).max() < limit
    split = np.cumsum([len(atoms) for atoms in original])[:-1]
    for fa, fb, permutation in zip(
        np.split(a["forces"], split), np.split(b["forces"], split), order, strict=True
    ):
        assert np.abs((fa @ rotation.T)[permutation] - fb).max() < limit
    crystal = [i for i, atoms in enumerate(original) if atoms.pbc.all()]  # MACE invents other cells
    sa, sb = a["stress"][crystal], b["stress"][crystal]
    assert np.abs(rotation @ sa @ rotation.T - sb).max() < limit
    assert np.abs(a["forces"]).max() > 1e-2 and np.abs(sa).max() > 1e-6
    assert difference(a, outputs(base, original)) > 1e-3


def test_same_factors_in_upstreams_wrappers(case: Case) -> None:
    """Upstream's own LoRA, with our A and B, computes the same energies and forces."""
    ours, theirs = make_model(case), make_model(case)
    inject_lora(ours, rank=3, alpha=2.0)
    perturbed(ours)
    upstream("mace.modules.lora").inject_lora(theirs, rank=3, alpha=2.0)
    layers = dict(lora_layers(ours))
    wrapped = {
        name for name, m in theirs.named_modules() if type(m).__module__ == "mace.modules.lora"
    }
    assert set(layers) == wrapped
    with torch.no_grad():
        for name, layer in layers.items():
            module = theirs.get_submodule(name)
            for factor in ("lora_A", "lora_B"):
                target = getattr(module, factor)
                target = getattr(target, "weight", target)
                assert target.shape == getattr(layer, factor).shape
                target.copy_(getattr(layer, factor))
    a, data = outputs(ours), graphs(structures(), theirs)
    batch = next(batches(data, len(data)))
    b = theirs(batch.to_dict(), training=False)  # grad mode on: upstream's training path
    for key in ("energy", "forces"):
        assert np.abs(a[key] - b[key].detach().numpy()).max() < bound(case, 1e-9)


# --- training: packs, and resuming


def test_point_in_a_pack_is_the_point_alone(case: Case, base: nn.Module, targets: dict) -> None:
    data = graphs(structures()[2:], base)  # two batches; 20 steps of the first row, 6 of others
    epochs = 10 if case is BASE else EPOCHS
    trained = [{"max_num_epochs": epochs} | one for one in POINTS]
    pack, points = packed(base, trained, targets)
    Fit(pack, points, data, data[:2]).run(lambda _: None)
    start = outputs(base)
    for i, one in enumerate(trained):
        alone, (point,) = packed(base, [one], targets)
        Fit(alone, [point], data, data[:2]).run(lambda _: None)
        a, b = of_point(pack, i), of_point(alone, 0)
        for key in OUTPUTS:
            scale = np.abs(b[key]).max()
            assert np.abs(a[key] - b[key]).max() <= bound(case, 1e-8) * scale, (i, key)
        assert difference(b, start) > 1e-4  # it has learnt something
        assert points[i].epoch == point.epoch == one["max_num_epochs"]
        for x, y in zip(points[i].history, point.history, strict=True):
            assert x["valid_loss"] == pytest.approx(y["valid_loss"], rel=bound(case, 1e-8))
        assert point.best_epoch == points[i].best_epoch > 0


class Killed(BaseException):
    pass


@pytest.mark.parametrize("row", FEW, ids=counts.named(FEW), indirect=True)
def test_resumed_is_undisturbed(case: Case, base: nn.Module, targets: dict, tmp_path: Path) -> None:
    """A pack killed in its third epoch, when one of its points has taken its last step."""
    data = graphs(structures(), base)
    short = [one | {"max_num_epochs": 2 + i} for i, one in enumerate(POINTS)]

    def run(die: bool) -> list[list[dict]]:
        pack, points = packed(base, short, targets)
        fit = Fit(pack, points, data[:4], data[:2], keys=["a", "b", "c"])
        fit.resume(tmp_path / "checkpoint.pt")

        def each_epoch(_: list[TrainingState]) -> None:
            if die and points[2].epoch == 3:
                raise Killed  # steps are taken, nothing of this epoch is saved
            fit.save(tmp_path / "checkpoint.pt")

        fit.run(each_epoch)
        clock = ("seconds", "timestamp", "system")
        return [[{k: v for k, v in x.items() if k not in clock} for x in p.history] for p in points]

    whole = run(die=False)
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(Killed):
        run(die=True)
    assert run(die=False) == whole
    assert [len(history) for history in whole] == [3, 4, 5]


# --- cuEquivariance


def converted(case: Case) -> nn.Module:
    """The base on cuEquivariance; MACE converts its newer class only."""
    pytest.importorskip("cuequivariance_torch")
    if case.cls != "ScaleShiftMACE":
        pytest.skip("MACE's converter takes ScaleShiftMACE only")
    if case.name in SLOW_ON_CUEQ and not counts.full():
        pytest.skip("slow without compiled kernels: in make test-long")
    return to_kernel(make_model(case), "cueq")


def cueq_bound(case: Case) -> float:
    return 1e-9 if case.dtype == torch.float64 else 1e-6


def test_cueq_layers_are_e3nns(case: Case, trained: nn.Module, targets: dict) -> None:
    """Convert, inject, with the same factors; merge, convert back."""
    model = converted(case)
    config = upstream("mace.modules.wrapper_ops").CuEquivarianceConfig(enabled=True)
    names = inject_lora(model, rank=3, alpha=2.0, cueq_config=config, targets=targets)
    factors = {n: p for n, p in trained.named_parameters() if n.endswith(("lora_A", "lora_B"))}
    assert set(names) == set(dict(lora_layers(trained)))
    assert not model.load_state_dict(factors, strict=False).unexpected_keys
    adapted, reference = outputs(model, two_heads(case)), outputs(trained, two_heads(case))
    assert difference(adapted, reference) <= cueq_bound(case)
    back = from_kernel(merge_lora_weights(model), "cueq")
    assert difference(outputs(back, two_heads(case)), reference) <= bound(case, 1e-9)
    plain = merge_lora_weights(trained).state_dict()
    assert back.state_dict().keys() == plain.keys()
    digits = 1e-7 if case.reduced else 1e-12  # MACE's way back inverts couplings, to 1e-8
    for name, value in back.state_dict().items():
        assert torch.allclose(value, plain[name], rtol=0, atol=bound(case, digits)), name
    assert difference(reference, outputs(make_model(case), two_heads(case))) > 1e-3


def test_pack_on_cueq(case: Case, targets: dict) -> None:
    """Two epochs: cuEquivariance without its compiled kernels is slow."""
    short = [one | {"max_num_epochs": 2} for one in POINTS]
    base, model = make_model(case), converted(case)
    data = graphs(structures()[:4], model)
    pack, points = packed(model, short, targets)
    Fit(pack, points, data, data[:1]).run(lambda _: None)
    plain, others = packed(base, short, targets)
    Fit(plain, others, data, data[:1]).run(lambda _: None)
    limit = 1e-8 if case.dtype == torch.float64 else 1e-3
    for i in range(len(POINTS)):
        assert difference(of_point(pack, i), of_point(plain, i)) <= limit
    assert difference(of_point(pack, 0), outputs(base)) > 1e-4


def test_products_are_among_the_layers(case: Case, base: nn.Module) -> None:
    """Guards the rows above: `products` does adapt products, `linear` does not."""
    inject_lora(base, rank=2)
    assert not {type(x.host) for _, x in lora_layers(base)} & {SkipHost, ContractionHost}
    base = make_model(case)
    inject_lora(base, rank=2, targets=PLACES["products"])
    found = {type(x.host) for _, x in lora_layers(base)}
    assert ContractionHost in found
    assert (SkipHost in found) == ("NonLinear" not in case.interaction)
