"""Choosing frames to label: the far ones first, above a bound, without labels of a model."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from lora.cli.main import main
from lora.data.structures import load_structures, write_structures
from lora.errors import UserError
from lora.plan.commands import Base
from lora.steps.select import SelectSettings, select
from tests.support.models import make_model
from tests.support.trainings import teacher_data

FAR = (2, 5)  # the frames of the pool that are no acetaldehyde near its minimum


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its training set, and a pool as an MD leaves it: near frames and two far ones."""
    folder = tmp_path_factory.mktemp("select")
    torch.save(make_model(), folder / "base.model")
    train = teacher_data(6, seed=0)
    free = Atoms("O", info={"config_type": "IsolatedAtom"})
    write_structures(folder / "train.xyz", [*train, free])
    pool = [atoms.copy() for atoms in train]
    pool[FAR[0]], pool[FAR[1]] = molecule("HCOOH"), molecule("CH3CHO")
    pool[FAR[1]].positions *= 1.3
    for i, atoms in enumerate(pool):
        atoms.positions += 1e-3 * np.random.default_rng(i).normal(size=atoms.positions.shape)
        atoms.info |= {"spread": 0.1 * i, "total_charge": 0}
        atoms.arrays["forces_spread"] = np.full((len(atoms), 3), 0.1 * i / 3**0.5)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((len(atoms), 3)))
    write_structures(folder / "pool.xyz", pool)
    return folder


def chosen(home: Path, out: Path, **settings: object) -> list[int]:
    base, train = Base(home / "base.model"), [home / "train.xyz"]
    found = select(home / "pool.xyz", base, train, out / "chosen.xyz", SelectSettings(**settings))
    frames = load_structures(out / "chosen.xyz")
    assert [x.info["lora_source_frame"] for x in frames] == found["chosen"]
    return found["chosen"]


def test_the_far_frames_come_first(home: Path, tmp_path: Path) -> None:
    first, second, third = chosen(home, tmp_path, count=3)
    assert {first, second} == set(FAR) and third not in FAR


@pytest.mark.parametrize("score", ["spread", "forces_spread"])
def test_only_frames_above_the_bound(home: Path, tmp_path: Path, score: str) -> None:
    assert chosen(home, tmp_path, count=2, score=score, above=0.25)[0] == 5
    assert sorted(chosen(home, tmp_path, count=9, score=score, above=0.25)) == [3, 4, 5]


def test_of_forces_the_length_counts_wherever_ase_keeps_them(home: Path, tmp_path: Path) -> None:
    pool = load_structures(home / "pool.xyz")
    for i, atoms in enumerate(pool):
        forces = np.zeros((len(atoms), 3))
        forces[0] = [-20.0 if i == 3 else -1.0, 0.0, 0.0]
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=forces)
    ase.io.write(tmp_path / "pool.xyz", pool, format="extxyz")
    base, settings = Base(home / "base.model"), SelectSettings(count=9, score="forces", above=5.0)
    out = tmp_path / "chosen.xyz"
    found = select(tmp_path / "pool.xyz", base, [home / "train.xyz"], out, settings)
    assert found["chosen"] == [3]


def test_what_a_model_computed_is_no_label(home: Path, tmp_path: Path) -> None:
    chosen(home, tmp_path, count=2)
    for atoms in load_structures(tmp_path / "chosen.xyz"):
        assert atoms.calc is None and set(atoms.arrays) == {"numbers", "positions"}
        assert not {"REF_energy", "energy"} & set(atoms.info)
        assert "spread" in atoms.info and atoms.info["total_charge"] == 0


def test_broken_frames_are_left_out_and_said(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool = list(load_structures(home / "pool.xyz"))
    pool[0].positions[0] = pool[0].positions[1]
    write_structures(tmp_path / "pool.xyz", pool)
    base, train = Base(home / "base.model"), [home / "train.xyz"]
    found = select(tmp_path / "pool.xyz", base, train, tmp_path / "out.xyz")
    assert found["broken"] == 1 and 0 not in found["chosen"]
    assert "left out 1 frames: 0: atoms 0 and 1 are 0 Å apart" in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--score", "spread"], "--score and --above go together"),
        (["--score", "sprad", "--above", "1"], "pool.xyz frame 0: has no sprad; its keys are "),
        (["--score", "spread", "--above", "9"], "no frame has a spread above 9; lower --above"),
        (["--train", "nowhere.xyz"], "nowhere.xyz: no such file"),
    ],
)
def test_mistakes_are_a_line(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    files = [str(home / "pool.xyz"), "--model", str(home / "base.model")]
    train = [] if "--train" in options else ["--train", str(home / "train.xyz")]
    out = ["--out", str(tmp_path / "chosen.xyz")]
    assert main(["select", *files, *train, *out, *options]) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "chosen.xyz").exists()


def test_an_element_that_the_model_does_not_know(home: Path, tmp_path: Path) -> None:
    write_structures(tmp_path / "pool.xyz", [molecule("SiH4")])
    base, train = Base(home / "base.model"), [home / "train.xyz"]
    with pytest.raises(UserError, match="frame 0: the foundation model does not know Si"):
        select(tmp_path / "pool.xyz", base, train, tmp_path / "out.xyz")
