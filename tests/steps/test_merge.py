"""Merging to files: the proof, the architecture, MACE's own calculator, and refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lora import inject_lora, load_foundation, save_adapter
from lora.data.structures import write_structures
from lora.errors import UserError
from lora.files.sealed import read_json, write_sealed
from lora.mace.door import upstream
from lora.mace.elements import get_e0s, set_e0s, trim_elements
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from lora.plan.commands import Base
from lora.steps.merge import merge
from tests.support.models import make_model, perturb, structures


@pytest.fixture
def files(tmp_path: Path) -> dict:
    """A base, a trained adapter of three of its elements, and structures to check on."""
    torch.save(make_model(), tmp_path / "base.model")
    model = trim_elements(make_model(), [1, 6, 8])
    set_e0s(model, {"O": -9.0})
    inject_lora(model, rank=2)
    perturb(model)
    save_adapter(model, tmp_path / "adapter")
    known = [a for a in structures(stress=False) if set(a.numbers) <= {1, 6, 8}]
    write_structures(tmp_path / "check.xyz", known)
    return {"base": Base(tmp_path / "base.model"), "check_file": tmp_path / "check.xyz"}


def test_merged_file_is_a_standard_model(files: dict, tmp_path: Path) -> None:
    (result,) = merge(**files, adapters={tmp_path / "m/m.model": tmp_path / "adapter"})
    assert max(result["max_abs_difference"].values()) < 1e-9
    assert result["merged_layers"] == 16 and result["fine_tuned_elements"] == ["C", "H", "O"]
    assert read_json(tmp_path / "m/merge.json") == result
    merged = torch.load(tmp_path / "m/m.model", weights_only=False)
    base = make_model()
    assert type(merged) is type(base)
    assert {k: v.shape for k, v in merged.state_dict().items()} == {
        k: v.shape for k, v in base.state_dict().items()
    }
    assert not [k for k in vars(merged) if "lora" in k or "fingerprint" in k or "kept" in k]
    e0s = get_e0s(merged)
    assert e0s["O"] == -9.0 and e0s["N"] == get_e0s(base)["N"]

    # MACE's own calculator on the file, against our predictions of the adapter on the base
    calculator = upstream("mace.calculators").MACECalculator(
        model_paths=str(tmp_path / "m/m.model"), device="cpu", default_dtype="float64"
    )
    from lora import load_adapter

    adapted = load_foundation(files["base"].model)
    load_adapter(adapted, tmp_path / "adapter")
    for atoms in structures(stress=False)[:2]:
        ours = predict(adapted, graphs([atoms], adapted))
        base_energy = predict(base, graphs([atoms], base))["energy"][0]
        atoms.calc = calculator
        assert abs(atoms.get_potential_energy() - ours["energy"][0]) < 1e-9
        assert np.abs(atoms.get_forces() - ours["forces"]).max() < 1e-9
        assert abs(ours["energy"][0] - base_energy) > 1e-2


def test_foundation_alone_gets_only_e0s(files: dict, tmp_path: Path) -> None:
    write_sealed(tmp_path / "e0s.json", {"E0s": {"H": -1.0, "C": -2.0, "O": -3.0}})
    merge(**files, e0s_file=tmp_path / "e0s.json", adapters={tmp_path / "f/f.model": None})
    merged = torch.load(tmp_path / "f/f.model", weights_only=False)
    base = make_model()
    assert get_e0s(merged) == {"H": -1.0, "C": -2.0, "N": get_e0s(base)["N"], "O": -3.0}
    for (name, a), (_, b) in zip(merged.named_parameters(), base.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_merge_that_is_not_exact_is_refused(
    files: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lora.adapters.layer import Adapter

    def sloppy(self: Adapter) -> torch.nn.Module:
        with torch.no_grad():
            self.base.weight.copy_(self.weight() * (1 + 1e-5))
        return self.base

    monkeypatch.setattr(Adapter, "merge", sloppy)
    with pytest.raises(UserError, match="merged and adapter model differ by"):
        merge(**files, adapters={tmp_path / "m/m.model": tmp_path / "adapter"})
    assert not (tmp_path / "m/m.model").exists()
    assert not (tmp_path / "m/merge.json").exists()


def test_one_source(files: dict, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give an adapter, or"):
        merge(**files, adapters={tmp_path / "m.model": None})
