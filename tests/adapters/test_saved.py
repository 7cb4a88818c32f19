"""Adapters as files: written from a trimmed model, read onto the full one, bound to their base."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lora import inject_lora, load_adapter, save_adapter
from lora.adapters.saved import CARD, TENSORS, read_card, save_weights
from lora.errors import UserError
from lora.files.sealed import read_headed, write_torch
from lora.mace.elements import set_e0s, trim_elements
from lora.mace.foundation import fingerprint
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from lora.plan.settings import TrainSettings
from lora.training.loop import Fit
from lora.training.state import TrainingState
from lora.training.trainees import Single
from tests.support.models import BASE, ONE_HEAD, ONE_HEAD_IDS, Case, make_model, perturb, structures

PRODUCTS = {"skip_tp": True, "symmetric_contraction": True}


def trained(
    case: Case = BASE, scaling: str = "mace", targets: dict | None = None
) -> torch.nn.Module:
    """A trimmed model with new E0s and factors that are not zero."""
    model = trim_elements(make_model(case), [1, 6, 8])
    set_e0s(model, {"H": -1.5})
    inject_lora(model, rank=2, alpha=3.0, scaling=scaling, targets=targets)
    perturb(model)
    return model


def known_structures() -> list:
    return [a for a in structures() if set(a.numbers) <= {1, 6, 8}]


@pytest.mark.parametrize("targets", [{}, PRODUCTS], ids=["linear", "products"])
@pytest.mark.parametrize("scaling", ["mace", "rank_stable"])
@pytest.mark.parametrize("case", ONE_HEAD, ids=ONE_HEAD_IDS)
def test_round_trip_to_the_full_model(
    case: Case, scaling: str, targets: dict, tmp_path: Path
) -> None:
    model, full = trained(case, scaling, targets), make_model(case)
    save_adapter(model, tmp_path)
    load_adapter(full, tmp_path)
    atoms = known_structures()
    a, b = predict(model, graphs(atoms, model)), predict(full, graphs(atoms, full))
    c = predict(make_model(case), graphs(atoms, full))
    bound = 1e-11 if case.dtype == torch.float64 else 2e-4
    assert np.abs(a["energy"] - c["energy"]).max() > 1e-3
    assert np.abs(a["energy"] - b["energy"]).max() < bound
    assert np.abs(a["forces"] - b["forces"]).max() < bound


def test_targets_are_stored_and_repeated(tmp_path: Path) -> None:
    model = make_model()
    targets = {"exclude": ["readouts.*"], "irreps": ["1o"], "rank_pattern": {"products.*": 1}}
    inject_lora(model, rank=3, targets=targets)
    perturb(model)
    save_adapter(model, tmp_path)
    full = make_model()
    load_adapter(full, tmp_path)
    atoms = known_structures()
    a, b = predict(model, graphs(atoms, model)), predict(full, graphs(atoms, full))
    assert np.array_equal(a["forces"], b["forces"])


def test_card_says_what_it_is(tmp_path: Path) -> None:
    save_adapter(trained(), tmp_path, base_name="base.model", best_epoch=3)
    card = read_card(tmp_path)
    assert (card["rank"], card["alpha"], card["scaling"]) == (2, 3.0, "mace")
    assert card["base"] == {"fingerprint": fingerprint(make_model()), "name": "base.model"}
    assert card["E0s"]["H"] == -1.5 and card["elements"] == ["H", "C", "O"]
    assert card["dtype"] == "float64" and card["head"] == "Default"
    assert "interactions.0.linear_up" in card["layers"]
    assert {"torch", "mace-torch", "e3nn", "mace-lora-sweep"} == set(card["versions"])
    assert card["notes"] == {"best_epoch": 3}
    assert (tmp_path / TENSORS).stat().st_size < 200_000


def test_another_base_is_refused_by_name(tmp_path: Path) -> None:
    save_adapter(trained(), tmp_path, base_name="mine.model")
    other = make_model(replace(BASE, seed=1))
    with pytest.raises(UserError) as caught:
        load_adapter(other, tmp_path)
    message = str(caught.value)
    assert fingerprint(make_model()) in message and fingerprint(other) in message
    assert "mine.model" in message and "\n" not in message


def changed(size: float = 1.1) -> torch.nn.Module:
    """The model with other weights, and with the note of what it was before."""
    model = make_model()
    with torch.no_grad():
        next(model.parameters()).mul_(size)
    return model


def test_the_base_is_told_by_its_weights(tmp_path: Path) -> None:
    """Not by what is noted on a model: made by hand, or changed after it was loaded."""
    by_hand = make_model()
    inject_lora(by_hand, rank=2)
    perturb(by_hand)
    save_adapter(by_hand, tmp_path / "a")
    full, other = make_model(), changed()
    load_adapter(full, tmp_path / "a")
    atoms = known_structures()
    a, b = (predict(x, graphs(atoms, x))["forces"] for x in (by_hand, full))
    assert np.array_equal(a, b)
    assert np.abs(a - predict(other, graphs(atoms, other))["forces"]).max() > 1e-3
    other.base_fingerprint = fingerprint(make_model())  # which is not true any more
    with pytest.raises(UserError, match="belongs to the base"):
        load_adapter(other, tmp_path / "a")
    inject_lora(other, rank=2)
    save_adapter(other, tmp_path / "b")
    with pytest.raises(UserError, match="belongs to the base"):
        load_adapter(make_model(), tmp_path / "b")
    load_adapter(changed(), tmp_path / "b")


def test_whole_weights_are_read_like_adapters(tmp_path: Path) -> None:
    base = make_model()
    model = trim_elements(base, [1, 6, 8])
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model.node_embedding.requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.1)
    save_weights(model, base, tmp_path)
    full = make_model()
    card = load_adapter(full, tmp_path)
    assert card["method"] == "weights" and "node_embedding.linear.weight" not in card["layers"]
    assert card["elements"] == ["H", "C", "O"]
    atoms = known_structures()
    a, b = predict(model, graphs(atoms, model)), predict(full, graphs(atoms, full))
    assert np.abs(a["forces"] - b["forces"]).max() < 1e-11
    assert np.abs(a["energy"] - predict(base, graphs(atoms, base))["energy"]).max() > 1e-3


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / CARD).unlink(), "adapter.json: no such file"),
        (lambda folder: (folder / TENSORS).unlink(), "adapter.safetensors: cannot be read"),
        (lambda folder: (folder / CARD).write_text("{"), "adapter.json is not JSON"),
        (
            lambda folder: (folder / TENSORS).write_bytes(b"abc"),
            "does not match the checksum in adapter.json",
        ),
        (lambda folder: edit(folder, rank=3), "adapter.json does not match its own checksum"),
        (
            lambda folder: edit(folder, seal={"format": 2}),
            "has format 2, and this version reads formats up to",
        ),
        # of a version that sealed nothing
        (lambda folder: edit(folder, seal=None, format=99), "has format 99, this version reads 1"),
        (lambda folder: edit(folder, seal=None, wrap_dense=False), "does not fit the model"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_damaged_files(tmp_path: Path, damage, message: str) -> None:
    save_adapter(trained(), tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=message):
        load_adapter(make_model(), tmp_path)


def edit(folder: Path, **changes: object) -> None:
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | changes))


def test_nothing_to_save() -> None:
    with pytest.raises(ValueError, match="call inject_lora first"):
        save_adapter(make_model(), "nowhere")


class Payload:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_files_from_outside_run_no_code(tmp_path: Path) -> None:
    """An adapter and a checkpoint that are pickles with a payload: refused, and nothing ran."""
    ran = tmp_path / "ran"
    save_adapter(trained(), tmp_path)
    (tmp_path / TENSORS).write_bytes(pickle.dumps(Payload(ran)))
    edit(tmp_path, seal=None)  # else it is refused for its digest
    with pytest.raises(UserError, match="cannot be read"):
        load_adapter(make_model(), tmp_path)
    model = make_model()
    inject_lora(model)
    point = TrainingState({"x": next(model.parameters())}, TrainSettings().resolved())
    write_torch(tmp_path / "checkpoint.pt", {"a": Payload(ran)}, head=True)
    assert Fit(Single(model), [point], [], [], ["a"]).resume(tmp_path / "checkpoint.pt") == 0
    assert not ran.exists()
    torch.load(read_headed(tmp_path / "checkpoint.pt"), weights_only=False)
    assert ran.exists()  # the payload works where it is let in
