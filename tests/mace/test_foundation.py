"""Loading, fingerprints, trimming to the elements of the data and back."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from lora import load_foundation
from lora.errors import UserError
from lora.mace.door import default_dtype, o3, upstream
from lora.mace.elements import elements, get_e0s, restore_elements, set_e0s, trim_elements
from lora.mace.foundation import _warn_once, fingerprint
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from tests.support.models import BASE, ONE_HEAD, ONE_HEAD_IDS, Case, make_model, structures


def outputs(model: torch.nn.Module, atoms: list[Atoms]) -> dict[str, np.ndarray]:
    return predict(model, graphs(atoms, model))


@pytest.mark.parametrize("case", ONE_HEAD, ids=ONE_HEAD_IDS)
def test_trimmed_model_computes_the_same_and_restores(case: Case) -> None:
    full = make_model(case)
    atoms = [a for a in structures() if set(a.numbers) <= {1, 6, 8}]
    trimmed = trim_elements(full, [8, 1, 6])
    assert elements(trimmed) == [1, 6, 8]
    assert sum(p.numel() for p in trimmed.parameters()) < sum(p.numel() for p in full.parameters())
    bound = 1e-11 if case.dtype == torch.float64 else 1e-4
    a, b = outputs(full, atoms), outputs(trimmed, atoms)
    assert np.abs(a["energy"] - b["energy"]).max() < bound
    assert np.abs(a["forces"] - b["forces"]).max() < bound

    with torch.no_grad():  # now change every weight, as full fine-tuning does
        generator = torch.Generator().manual_seed(5)
        for parameter in trimmed.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.mul_(1 + 0.1 * noise)
    set_e0s(trimmed, {"H": -1.0, "O": -2.0})
    untouched = copy.deepcopy(full.state_dict())
    restored = restore_elements(trimmed, full)
    c, d = outputs(trimmed, atoms), outputs(restored, atoms)
    assert np.abs(c["energy"] - a["energy"]).max() > 1e-2
    assert np.abs(c["energy"] - d["energy"]).max() < bound
    assert np.abs(c["forces"] - d["forces"]).max() < bound
    shapes = {k: v.shape for k, v in restored.state_dict().items()}
    assert shapes == {k: v.shape for k, v in untouched.items()}
    assert all(torch.equal(v, untouched[k]) for k, v in full.state_dict().items())
    e0s = get_e0s(restored)
    assert (e0s["H"], e0s["O"], e0s["N"]) == (-1.0, -2.0, get_e0s(full)["N"])


def test_fingerprint_is_of_the_weights() -> None:
    model = make_model()
    first = fingerprint(model)
    assert fingerprint(make_model()) == first
    single = copy.deepcopy(model).float()
    assert fingerprint(single) == fingerprint(copy.deepcopy(single).double()) == first
    set_e0s(model, {"H": -7.0})
    assert fingerprint(model) == first  # E0s do not count
    with torch.no_grad():
        next(model.parameters())[0] += 1e-3
    assert fingerprint(model) != first


def test_load_file_keeps_predictions(tmp_path: Path) -> None:
    model = make_model()
    expected = outputs(model, structures())
    torch.save(model, tmp_path / "base.model")
    loaded = load_foundation(tmp_path / "base.model")
    assert fingerprint(loaded) == fingerprint(model)
    assert np.array_equal(outputs(loaded, structures())["energy"], expected["energy"])
    as_float = load_foundation(tmp_path / "base.model", dtype=torch.float32)
    assert next(as_float.parameters()).dtype == torch.float32


def test_the_risk_of_pickles_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(make_model(), tmp_path / "base.model")
    _warn_once.cache_clear()
    for _ in range(3):
        load_foundation(tmp_path / "base.model")
    assert caplog.text.count("can run code when loaded") == 1


def test_several_heads_need_a_choice(tmp_path: Path) -> None:
    modules = upstream("mace.modules")
    torch.manual_seed(0)
    residual = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    with default_dtype(torch.float64):
        model = modules.ScaleShiftMACE(
            atomic_inter_scale=[1.0, 1.1],
            atomic_inter_shift=[0.0, 0.2],
            r_max=4.0,
            num_bessel=4,
            num_polynomial_cutoff=5,
            max_ell=2,
            interaction_cls=residual,
            interaction_cls_first=residual,
            num_interactions=2,
            num_elements=2,
            hidden_irreps=o3.Irreps("4x0e + 4x1o"),
            MLP_irreps=o3.Irreps("6x0e"),
            atomic_energies=np.array([[-1.0, -2.0], [-3.0, -4.0]]),
            avg_num_neighbors=6.0,
            atomic_numbers=[1, 8],
            correlation=2,
            gate=torch.nn.functional.silu,
            radial_MLP=[8],
            heads=["pt", "dft"],
        )
    torch.save(model, tmp_path / "two.model")
    with pytest.raises(UserError, match=r"foundation\.head: .*two\.model.*choose one of: pt, dft"):
        load_foundation(tmp_path / "two.model")
    with pytest.raises(UserError, match="nohead is not in"):
        load_foundation(tmp_path / "two.model", head="nohead")
    chosen = load_foundation(tmp_path / "two.model", head="dft")
    assert list(chosen.heads) == ["dft"]
    assert get_e0s(chosen) == {"H": -3.0, "O": -4.0}
    water = molecule("H2O")
    expected = float(model(next(_batch(water, model, head=1)).to_dict())["energy"].detach())
    assert outputs(chosen, [water])["energy"][0] == pytest.approx(expected, abs=1e-12)


def _batch(atoms: Atoms, model: torch.nn.Module, head: int):
    from lora.mace.graphs import batches

    graph = graphs([atoms], model)[0]
    graph.head = torch.tensor(head)
    return batches([graph], 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a model", "cannot be read as a model"),
        ({"a": torch.zeros(2)}, "holds a dict, not a model"),
        (torch.nn.Linear(2, 2), "holds a Linear, not a MACE model"),
    ],
    ids=["text", "state_dict", "other_module"],
)
def test_files_that_are_no_model(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "x.model"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=message):
        load_foundation(path)


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"medium_omat.*medium_off"):
        load_foundation("mediun_omat")


def test_names_reach_maces_own_loaders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The download itself needs a network; that we ask for the right model does not."""
    zoo, asked = upstream("mace.calculators.foundations_models"), []

    def fake(name: str):
        return lambda model=None, **_: asked.append((name, model)) or make_model()

    for name in ("mace_mp", "mace_off", "mace_omol"):
        monkeypatch.setattr(zoo, name, fake(name))
    for name in ("medium_omat", "small", "medium_off", "mace_omol"):
        load_foundation(name)
    assert asked == [
        ("mace_mp", "medium-omat-0"),
        ("mace_mp", "small"),
        ("mace_off", "medium"),
        ("mace_omol", None),
    ]


def test_unknown_element() -> None:
    model = make_model(BASE)
    with pytest.raises(UserError, match="element Cl: the foundation model does not know it"):
        trim_elements(model, [1, 17])
    with pytest.raises(UserError, match="does not know the element Cl"):
        set_e0s(model, {"Cl": 1.0})
