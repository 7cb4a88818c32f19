"""Data that LoRA can learn, the files of a training, and what it leaves behind."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from lora.adapters.inject import inject_lora
from lora.data.structures import ENERGY, FORCES, write_structures
from lora.errors import Paused
from lora.files.sealed import write_sealed
from lora.mace.elements import get_e0s
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from lora.plan.commands import Base
from lora.training.inputs import TrainFiles
from tests.support.models import make_model, perturb

EPOCHS = 4
QUICK = {"max_num_epochs": EPOCHS, "batch_size": 3, "ema_decay": 0.5, "patience": 50}


def teacher_data(n: int, seed: int) -> list[Atoms]:
    """Acetaldehydes labelled by a perturbed copy of the model: something LoRA can learn."""
    teacher = make_model()
    inject_lora(teacher, rank=2)
    perturb(teacher, size=1.0)
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        atoms = molecule("CH3CHO")
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        out.append(atoms)
        atoms.info = {ENERGY: 0.0}
        atoms.arrays[FORCES] = np.zeros((len(atoms), 3))
    labels = predict(teacher, graphs(out, teacher))
    for atoms, energy, forces in zip(
        out, labels["energy"], labels["forces"].reshape(n, -1, 3), strict=True
    ):
        atoms.info[ENERGY], atoms.arrays[FORCES] = float(energy), forces
    return out


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    torch.save(make_model(), folder / "base.model")
    write_structures(folder / "train.xyz", teacher_data(9, seed=0))
    write_structures(folder / "valid.xyz", teacher_data(4, seed=1))
    write_sealed(folder / "e0s.json", {"E0s": get_e0s(make_model())})
    return {
        "foundation": folder / "base.model",
        "train_file": folder / "train.xyz",
        "valid_file": folder / "valid.xyz",
        "e0s_file": folder / "e0s.json",
    }


@pytest.fixture(scope="module")
def inputs(files: dict[str, Path]) -> dict[str, Base | TrainFiles]:
    """Foundation model and data of a training, as `train` takes them."""
    data = TrainFiles(files["train_file"], files["valid_file"], files["e0s_file"])
    return {"base": Base(files["foundation"]), "files": data}


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


CLOCK = ("seconds", "timestamp", "system")


def same(a: Path, b: Path) -> bool:
    """Whether two trainings have the same history and the same adapter, to the last byte."""
    histories = [
        [{k: v for k, v in line.items() if k not in CLOCK} for line in lines_of(x)] for x in (a, b)
    ]
    tensors = [(x / "adapter/adapter.safetensors").read_bytes() for x in (a, b)]
    return histories[0] == histories[1] and tensors[0] == tensors[1]


def stopped(run: Callable[[], object]) -> int:
    """Run a training that stops early until it comes to its end; return how often it stopped."""
    for stops in range(100):
        try:
            run()
            return stops
        except Paused:
            pass
    raise AssertionError("it does not come to its end")


def with_files(inputs: dict, **changed: Path) -> dict:
    """The inputs of a training with other files: train, valid, e0s, replay or keep."""
    return inputs | {"files": replace(inputs["files"], **changed)}
