"""Every published kind of foundation model goes through the steps, or is refused in a line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from lora.cli.main import main
from lora.data.structures import ENERGY, FORCES, write_structures
from lora.errors import UserError
from lora.files.sealed import read_json, write_sealed
from lora.mace.door import upstream
from lora.mace.elements import get_e0s
from lora.mace.foundation import load_foundation
from lora.plan.commands import Base
from lora.plan.settings import TrainSettings
from lora.steps.evaluate import evaluate
from lora.steps.foundation import foundation
from lora.steps.merge import merge
from lora.steps.train import TrainFiles, train
from tests.support import counts
from tests.support.models import BASE, make_model, structures
from tests.support.published import HEADS, WORKING, Published

EXACT = 1e-3  # meV/atom and meV/Å
QUICK = TrainSettings(rank=1, max_num_epochs=1, batch_size=4, ema=False, lr=1e-3)


def calculator(model: Any, head: str | None = None) -> Any:
    """MACE's own calculator."""
    keys = {"total_charge": "total_charge", "total_spin": "total_spin"}
    chosen = {"head": head} if head else {}
    return upstream("mace.calculators").MACECalculator(
        models=[model], device="cpu", default_dtype="float64", info_keys=keys, **chosen
    )


def answer(ask: Any, atoms: Atoms) -> tuple[float, np.ndarray]:
    """Energy (eV) and forces (eV/Å) of a calculator."""
    asked = atoms.copy()
    asked.calc = ask
    return float(asked.get_potential_energy()), asked.get_forces()


def labelled(kind: Published) -> list[Atoms]:
    """Structures, charges and spins of all sorts, with the labels that MACE's calculator gives."""
    ask = calculator(kind.model(), kind.head)
    out = [atoms for atoms in structures(stress=False) if len(atoms) > 1]
    for i, atoms in enumerate(out):
        if kind.case.charged:
            atoms.info |= {"total_charge": (0, 1, -1)[i % 3], "total_spin": (1, 2, 3)[i % 3]}
        atoms.info[ENERGY], atoms.arrays[FORCES] = answer(ask, atoms)
    return out


@pytest.fixture(params=[x for x in WORKING if counts.full() or not x.rare], ids=lambda x: x.name)
def kind(request: pytest.FixtureRequest) -> Published:
    return request.param


@pytest.mark.long
def test_a_published_kind_works_and_is_exact(kind: Published, tmp_path: Path) -> None:
    data = labelled(kind)
    write_structures(tmp_path / "valid.xyz", data)
    for atoms in data:
        atoms.info["test_set"] = "test"
    write_structures(tmp_path / "test.xyz", data)
    torch.save(kind.file(), tmp_path / "given.model")

    kept = tmp_path / "foundation" / "foundation.model"
    said = foundation(Base(tmp_path / "given.model", kind.head), kept)
    assert kept.read_bytes() == (tmp_path / "given.model").read_bytes()
    assert said == read_json(kept.with_name("foundation.json"))
    assert said["heads"] == list(kind.case.heads) and bool(said["repaired"]) == bool(kind.aged)
    assert said["embeddings"] == dict.fromkeys(("total_charge", "total_spin"), kind.case.charged)

    # untouched, in all that evaluation does to it
    base, sets = Base(kept, kind.head), (tmp_path / "valid.xyz", tmp_path / "test.xyz")
    e0s = {"E0s": get_e0s(load_foundation(kept, kind.head))}
    write_sealed(tmp_path / "e0s.json", e0s)
    same, tuned = tmp_path / "merge/same/same.model", tmp_path / "merge/tuned/tuned.model"
    merge(base, sets[0], {same: None}, tmp_path / "e0s.json")
    (result,) = evaluate({tmp_path / "same.json": same}, *sets)
    for errors in result["sets"].values():
        assert errors["rmse_e_mev_per_atom"] < EXACT and errors["rmse_f_mev_per_a"] < EXACT

    # trained for a step, merged, saved
    for atoms in data:
        atoms.info[ENERGY] += 0.1
        atoms.arrays[FORCES] *= 1.1
    write_structures(tmp_path / "new.xyz", data)
    files = TrainFiles(tmp_path / "new.xyz", tmp_path / "new.xyz", tmp_path / "e0s.json")
    train(QUICK, base, files, tmp_path / "point")
    merge(base, sets[0], {tuned: tmp_path / "point" / "adapter"})  # proves that they are the same
    evaluate({tmp_path / "tuned.json": tuned}, *sets)
    saved = torch.load(tuned, weights_only=False)
    assert len(saved.heads) == 1
    before = answer(calculator(torch.load(same, weights_only=False)), data[0])
    after = answer(calculator(saved), data[0])
    assert before[0] == pytest.approx(data[0].info[ENERGY] - 0.1, abs=1e-9)
    assert abs(after[0] - before[0]) > 1e-6


def test_a_kept_model_that_was_damaged_is_said(tmp_path: Path) -> None:
    torch.save(make_model(), tmp_path / "given.model")
    kept = tmp_path / "results/foundation/foundation.model"
    foundation(Base(tmp_path / "given.model"), kept)
    load_foundation(kept)
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"foundation\.model does not match the checksum in found"):
        load_foundation(kept)


def test_what_would_be_trained_is_compared_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(make_model(HEADS), tmp_path / "two.model")
    base = Base(tmp_path / "two.model", "r2scan")
    assert foundation(base)["max_abs_difference"] < 1e-12
    other = load_foundation(tmp_path / "two.model", "pbe")  # as if the wrong one were taken out
    monkeypatch.setattr("lora.steps.foundation.choose_head", lambda *_: other)
    other.heads = ["r2scan"]
    with pytest.raises(UserError, match=r"two\.model: the energy of what would be trained differ"):
        foundation(base)


def test_replay_is_tried_before_anything_trains(tmp_path: Path) -> None:
    torch.save(make_model(replace(BASE, cls="MACE")), tmp_path / "mace.model")
    foundation(Base(tmp_path / "mace.model"))
    with pytest.raises(UserError, match="replay: MACE gives no second head to a MACE"):
        foundation(Base(tmp_path / "mace.model"), replay=True)


def test_a_model_with_heads_is_described_by_hand_without_a_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(make_model(HEADS), tmp_path / "two.model")
    assert main(["foundation", str(tmp_path / "two.model")]) == 0
    printed = capsys.readouterr().out
    for words in ("pbe, r2scan", "choose one with --head", "H C N O", "4 Å", "not known"):
        assert words in printed, words
    assert not (tmp_path / "foundation.json").exists()
