"""Right files and configs with something spoiled: a line with the place, or nothing is lost.

1,000 of each with full counts; MACE_LORA_MUTANTS=N draws others.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from lora.data.audit_outside import far_outside, same_geometry
from lora.data.labels import STRESS, Keys
from lora.data.look import look
from lora.data.proposal import proposal
from lora.data.structures import (
    ENERGY,
    FORCES,
    SETS,
    is_isolated_atom,
    load_structures,
    read_structures,
    type_of,
)
from lora.data.unused import unused_labels
from lora.errors import UserError
from lora.plan.config_data import Audit
from lora.plan.reading import read_config
from lora.plan.start import Start
from lora.plan.sweep import Sweep
from tests.support import counts
from tests.support.mutants import ROOT, Frame, in_time, said, spoiled_config, spoiled_file

pytestmark = pytest.mark.long
CASES = counts.of(100, 1000)
SHARES = ("--valid_fraction", "0.3", "--test_fraction", "0.2")


def assert_kept(frame: Frame, atoms: Atoms) -> None:
    """What was not spoiled of a frame is as it was made."""
    if not frame.moved and frame.has("Properties"):
        wanted = np.array([x[1:] for x in frame.atoms], dtype=float)
        assert np.allclose(atoms.positions, wanted[:, :3], rtol=0, atol=1e-8)
        assert np.allclose(atoms.arrays[FORCES], wanted[:, 3:], rtol=0, atol=1e-8)
    if cell := frame.has("Lattice"):
        assert np.allclose(atoms.cell.array.ravel(), [float(x) for x in cell.strip('"').split()])
    if pbc := frame.has("pbc"):
        assert [*atoms.pbc] == [x == "T" for x in pbc.strip('"').split()]
    if (kind := frame.has("config_type")) and not is_isolated_atom(atoms):
        assert type_of(atoms) == kind
    if frame.has("REF_stress") and frame.has("Lattice") and frame.has("pbc"):
        assert np.allclose(np.ravel(atoms.info[STRESS]), np.eye(3).ravel())


def go_on(path: Path) -> None:
    """What looks at structures beside the split takes them, or says what is wrong."""
    with in_time():
        unused_labels(path, Keys())
        found = [x for x in read_structures(path) if not is_isolated_atom(x)]
        far_outside(found, Audit())
        same_geometry(found, Audit())
    try:
        with in_time():
            proposal(look(path, {}), "small").text()
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture, told: Callable) -> None:
    """No frame, and no label that was not spoiled, is lost without a word."""
    taken = 0
    for case in range(CASES):
        path, out = tmp_path / "spoiled.xyz", tmp_path / f"out{case}"
        made = spoiled_file(case)
        path.write_bytes(made.content)
        code, lines = said(capsys, "split", path, "--out", out, *SHARES)
        if code:
            assert code == 2 and len(lines) == 1, (case, code, lines)
            assert re.match(rf"mace-lora split: {path}\b", lines[0]), (case, lines)
            assert not out.exists()
            continue
        taken += 1
        kept = [x for name in SETS for x in load_structures(out / f"{name}.xyz")]
        assert len(kept) == len(made.frames), case
        by_energy = {float(x.info[ENERGY]): x for x in kept if ENERGY in x.info}
        for frame in made.frames:
            if energy := frame.has("REF_energy"):
                assert float(energy) in by_energy, case
                assert_kept(frame, by_energy[float(energy)])
        go_on(path)
    assert taken > CASES / 20
    told("a file of structures spoiled", CASES - taken, "one line with the file", "nothing lost")


def test_configs(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    told: Callable,
) -> None:
    """Lines with the file or the key, or a plan."""
    monkeypatch.chdir(ROOT)
    path, taken = tmp_path / "spoiled.yaml", 0
    for case in range(CASES):
        path.write_bytes(spoiled_config(case))
        code, lines = said(capsys, "config", path)
        if code:
            assert code == 2 and lines, case
            assert all(x.startswith(("config: ", str(path))) for x in lines), (case, lines)
            assert not any(re.search("<(one|more|text|dict|other)>", x) for x in lines), lines
            continue
        taken += 1
        values = read_config(path).values | {"results": str(tmp_path / "results")}
        try:
            with in_time():
                Sweep.begin(values, Start(cores=2, nodes=4, dry=True))
        except UserError as error:
            assert str(error).startswith("config: "), (case, error)
    assert taken > CASES / 20 and not (tmp_path / "results").exists()
    told("a config spoiled", CASES - taken, "a line for each mistake", "planned")
