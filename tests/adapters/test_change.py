"""The contract of every kind of adapter on every host: a new row of `KINDS` is tested here.

Each model has adapters on the layers of one host alone, so that nothing else can make up for it.
"""

import copy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from lora import inject_lora, load_adapter, merge_lora_weights, save_adapter
from lora.adapters.algebra import add_adapters, scale_adapters, truncate_lora, unmerge
from lora.adapters.host import Host
from lora.adapters.hosts import HOSTS, host_class, host_of
from lora.adapters.inject import lora_layers, take_adapters
from lora.adapters.kinds import KINDS
from lora.adapters.layer import Adapter
from lora.adapters.pack import Pack
from lora.adapters.saved import read_card
from lora.catalogue.methods import ADAPTERS
from lora.errors import UserError
from lora.mace.elements import trim_elements
from lora.mace.graphs import graphs
from lora.mace.kernels import to_kernel
from lora.training.loop import Fit
from tests.support.models import (
    BASE,
    CASES,
    OUTPUTS,
    Case,
    difference,
    make_model,
    outputs,
    perturb,
    structures,
)
from tests.support.packs import of_point, packed


@cache
def case_of(host: type[Host]) -> Case:
    """The first of the architectures that has layers of a host."""
    return next(
        case for case in CASES if any(host_class(x) is host for x in make_model(case).modules())
    )


def base_of(host: type[Host]) -> nn.Module:
    return make_model(case_of(host))


def targets_of(host: type[Host]) -> dict:
    """Targets that choose the layers of one host."""
    names = [name for name, x in base_of(host).named_modules() if host_class(x) is host]
    return {"include": names, "skip_tp": True, "symmetric_contraction": True}


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.__name__)
@pytest.mark.parametrize("kind", KINDS)
class TestChangeContract:
    """What holds for every kind on every host."""

    def injected(self, kind: str, host: type[Host], seed: int | None = 1, **more) -> nn.Module:
        """A model with adapters on the layers of one host, plainly not zero unless seed is None."""
        model = more.pop("model", None) or base_of(host)
        more = {"rank": 3, "alpha": 2.0} | more
        targets = targets_of(host)
        assert inject_lora(model, **more, targets=targets, kind=kind) == sorted(targets["include"])
        assert {type(layer.host) for _, layer in lora_layers(model)} == {host}
        assert {layer.kind for _, layer in lora_layers(model)} == {kind}
        if seed is not None:
            perturb(model, seed=seed)
        return model

    def test_start_is_the_base(self, kind: str, host: type[Host]) -> None:
        before, start = outputs(base_of(host)), outputs(self.injected(kind, host, None))
        for key in OUTPUTS:
            scale = np.abs(before[key]).max()
            assert np.abs(start[key] - before[key]).max() <= 1e-12 * scale
        assert difference(outputs(self.injected(kind, host)), before) > 1e-4

    def test_every_parameter_counts(self, kind: str, host: type[Host]) -> None:
        """Each changes the weight; all train, the base does not; the shapes are the weight's."""
        model = self.injected(kind, host)
        for _, layer in lora_layers(model):
            assert layer.delta().shape == layer.base_weight().shape
            trained = {name for name, p in layer.named_parameters() if p.requires_grad}
            assert trained == set(layer.axes)
            weight = layer.weight()
            probe = torch.linspace(-1, 2, weight.numel(), dtype=weight.dtype).cos()
            gradients = torch.autograd.grad(
                (weight * probe.view_as(weight)).sum(), list(layer.values().values())
            )
            assert all(g.abs().max() > 1e-6 for g in gradients)

    def test_merged_is_the_adapter(self, kind: str, host: type[Host]) -> None:
        model = self.injected(kind, host)
        merged = merge_lora_weights(model, inplace=False)
        assert difference(outputs(merged), outputs(model)) <= 1e-9
        assert difference(outputs(merged), outputs(base_of(host))) > 1e-4
        base = base_of(host).state_dict()
        assert {k: v.shape for k, v in merged.state_dict().items()} == {
            k: v.shape for k, v in base.items()
        }

    def test_rotation(self, kind: str, host: type[Host]) -> None:
        model = self.injected(kind, host)
        rotation = -Rotation.random(rng=np.random.default_rng(7)).as_matrix()
        moved = structures()
        for atoms in moved:
            atoms.positions, atoms.cell = atoms.positions @ rotation.T, atoms.cell @ rotation.T
        a, b = outputs(model), outputs(model, moved)
        assert np.abs(a["energy"] - b["energy"]).max() < 1e-9
        assert np.abs(a["forces"] @ rotation.T - b["forces"]).max() < 1e-9
        assert difference(a, outputs(base_of(host))) > 1e-4

    def test_round_trip(self, kind: str, host: type[Host], tmp_path: Path) -> None:
        """From a model trimmed to three elements to a file and onto the full model."""
        model = self.injected(kind, host, model=trim_elements(base_of(host), [1, 6, 8]))
        save_adapter(model, tmp_path)
        assert read_card(tmp_path)["method"] == kind
        full = base_of(host)
        load_adapter(full, tmp_path)
        known = [atoms for atoms in structures() if set(atoms.numbers) <= {1, 6, 8}]
        assert difference(outputs(model, known), outputs(full, known)) < 1e-11
        assert difference(outputs(full, known), outputs(base_of(host), known)) > 1e-4

    def test_other_ranks(self, kind: str, host: type[Host]) -> None:
        """Padded to a higher rank and brought back, the parameters are what they were."""
        for _, layer in lora_layers(self.injected(kind, host)):
            larger = layer.like(5)
            larger.set_values(layer.resized(5))
            for name, value in larger.resized(3).items():
                assert torch.equal(value, layer.get_parameter(name)), name

    def test_pack_is_each_alone(self, kind: str, host: type[Host]) -> None:
        """Of different ranks and scalings, trained for three epochs."""
        base, data, targets = base_of(host), graphs(structures(), base_of(host)), targets_of(host)
        points = [
            {"rank": 1, "alpha": 4.0, "lr_ratio_b": 4.0},
            {"rank": 3, "alpha": 2.0, "scaling": "rank_stable"},
        ]
        points = [one | {"lr": 0.02, "max_num_epochs": 3} for one in points]
        if not KINDS[kind].packable:
            with pytest.raises(UserError, match="cannot be trained together"):
                packed(base, points, targets, kind)
            return
        pack, states = packed(base, points, targets, kind)
        Fit(pack, states, data, data[:2]).run(lambda _: None)
        for i, one in enumerate(points):
            alone, (state,) = packed(base, [one], targets, kind)
            Fit(alone, [state], data, data[:2]).run(lambda _: None)
            a, b = of_point(pack, i), of_point(alone, 0)
            for key in OUTPUTS:
                assert np.abs(a[key] - b[key]).max() <= 1e-8 * np.abs(b[key]).max(), (i, key)
            assert difference(b, outputs(base)) > 1e-4

    def test_algebra(self, kind: str, host: type[Host], tmp_path: Path) -> None:
        """Scaled, added and taken out of a merged model, or refused in one line."""
        model, base = self.injected(kind, host), base_of(host)
        save_adapter(model, tmp_path)
        adapted = outputs(model)
        merged = merge_lora_weights(model, inplace=False)
        if not KINDS[kind].linear:
            for refused in (
                lambda: scale_adapters(model, 0.5),
                lambda: add_adapters(base, {tmp_path: 0.5}),
                lambda: unmerge(merged, tmp_path),
            ):
                with pytest.raises(UserError, match=kind):
                    refused()
            return
        assert difference(outputs(unmerge(merged, tmp_path)), adapted) < 1e-10
        add_adapters(base, {tmp_path: 0.5})
        scale_adapters(model, 0.5)
        assert difference(outputs(base), outputs(model)) < 1e-10
        assert difference(outputs(base), adapted) > 1e-5

    def test_cut(self, kind: str, host: type[Host]) -> None:
        """The factors are the change; cut to their own rank, nothing is lost."""
        model = self.injected(kind, host)
        if not KINDS[kind].can_be_cut:
            with pytest.raises(UserError, match=kind):
                truncate_lora(model, rank=1)
            return
        for _, layer in lora_layers(model):
            pairs = layer.factors()
            product = layer.host.assemble({k: left @ right for k, (left, right) in pairs.items()})
            assert torch.allclose(layer.scale * product, layer.delta(), atol=1e-14)
            grown = layer.like(5)
            grown.set_factors(pairs)
            assert torch.allclose(
                grown.delta() / grown.scale, layer.delta() / layer.scale, atol=1e-12
            )
        before = outputs(model)
        truncate_lora(model, energy=1.0)
        assert difference(outputs(model), before) < 1e-10
        assert difference(before, outputs(base_of(host))) > 1e-4


def test_kinds_and_catalogue_have_the_same_rows() -> None:
    assert tuple(KINDS) == ADAPTERS
    assert {name: kind.kind for name, kind in KINDS.items()} == {name: name for name in KINDS}


def test_kinds_are_not_mixed_in_a_pack() -> None:
    class Other(KINDS["lora"]):
        kind = "other"

    model = make_model(BASE)
    inject_lora(model, rank=2)
    layers = take_adapters(model)
    others: dict[str, Adapter] = {name: Other(x.base, 2) for name, x in layers.items()}
    with pytest.raises(UserError, match="lora and other adapters cannot be trained together"):
        Pack(model, [layers, others])


def test_a_kind_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="kind must be one of lora"):
        inject_lora(make_model(), kind="peft")
    with pytest.raises(ValueError, match="is not a layer that can have an adapter"):
        host_of(nn.ReLU())


# --- hosts


@pytest.mark.parametrize("kernel", ["e3nn", "cueq"])
@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.__name__)
def test_matrices_are_the_weight(host: type[Host], kernel: str) -> None:
    """Taken apart and put together again; run with its own weight, the layer is itself."""
    model = base_of(host)
    if kernel == "cueq":
        pytest.importorskip("cuequivariance_torch")
        model = to_kernel(model, "cueq")
    layers = [x for x in model.modules() if host_class(x) is host and host.irreps_of(x)]
    assert layers
    for layer in layers:
        found = host_of(layer)
        weight = found.base_weight().detach()
        assert torch.allclose(found.assemble(found.matrices(weight)), weight, atol=1e-12)
        doubled = {part: torch.stack([m, 2 * m]) for part, m in found.matrices(weight).items()}
        stacked = found.assemble(doubled)
        assert stacked.shape == (2, *weight.shape)
        assert torch.allclose(stacked[1], 2 * weight, atol=1e-12) and weight.abs().max() > 0.1
        changed = copy.deepcopy(found)
        with torch.no_grad():
            changed.set_base_weight(stacked[1])
        assert torch.allclose(changed.base_weight(), 2 * weight, atol=1e-12)
        assert torch.equal(found.base_weight(), weight)
        rows = {part: sum(s.size for s in found.inputs if s.part == part) for part in found.parts}
        columns = {
            part: sum(s.size for s in found.outputs if s.part == part) for part in found.parts
        }
        for part, matrix in found.matrices(weight).items():
            shape = (rows[part], columns[part])
            assert matrix.shape == (shape[::-1] if found.outputs_first else shape)
