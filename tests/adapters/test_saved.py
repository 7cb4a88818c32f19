"""Adapters as files: written from a trimmed model, read onto the full one, bound to their base."""

import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lora import inject_lora, load_adapter, merge_lora_weights, save_adapter, unload_lora
from lora.adapters.inject import lora_layers
from lora.adapters.saved import CARD, TENSORS, read_card, save_weights
from lora.errors import UserError
from lora.files.sealed import read_headed, write_torch
from lora.mace.door import o3, upstream
from lora.mace.elements import set_e0s, trim_elements
from lora.mace.foundation import fingerprint
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from lora.plan.settings import TrainSettings
from lora.training.loop import Fit
from lora.training.state import TrainingState
from lora.training.trainees import Single
from tests.support import counts
from tests.support.models import (
    BASE,
    CASES,
    ONE_HEAD,
    Case,
    make_model,
    perturb,
    structures,
)

PRODUCTS = {"skip_tp": True, "symmetric_contraction": True}
PLACES: dict[str, dict] = {"linear": {}, "products": PRODUCTS}
ROWS = counts.covering(ONE_HEAD, ["mace", "rank_stable"], PLACES)


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


@pytest.mark.long
@pytest.mark.parametrize(("case", "scaling", "place"), ROWS, ids=counts.named(ROWS))
def test_round_trip_to_the_full_model(case: Case, scaling: str, place: str, tmp_path: Path) -> None:
    model, full = trained(case, scaling, PLACES[place]), make_model(case)
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


def test_a_base_that_changed_under_its_adapters_is_not_saved(tmp_path: Path) -> None:
    for trim in (False, True):
        for change in ("scale_shift.scale", "scale_shift.shift", "products.0.linear.base.weight"):
            model = trim_elements(make_model(), [1, 6, 8]) if trim else make_model()
            inject_lora(model, rank=2)
            perturb(model)
            set_e0s(model, {"H": -3.0})  # which is allowed
            save_adapter(model, tmp_path / "before")
            with torch.no_grad():
                (dict(model.named_parameters()) | dict(model.named_buffers()))[change].mul_(1.1)
            name = change.replace(".base", "")
            with pytest.raises(ValueError, match=f"{name} of the base changed since") as caught:
                save_adapter(model, tmp_path / "after")
            assert "\n" not in str(caught.value) and not (tmp_path / "after").exists()
    load_adapter(make_model(), tmp_path / "before")


@pytest.mark.parametrize("change", ["scale", "shift"])
def test_scale_and_shift_belong_to_the_base(change: str, tmp_path: Path) -> None:
    save_adapter(trained(), tmp_path)
    other = make_model()
    getattr(other.scale_shift, change).add_(0.01)
    with pytest.raises(UserError, match="belongs to the base"):
        load_adapter(other, tmp_path)


STALE = {
    "none": {},
    "of_0.2": {"base_fingerprint": fingerprint(make_model()), "kept_elements": [0, 1, 3]},
    "with_heads": {"base_fingerprint": fingerprint(make_model()), "heads": ["Default", "pt_head"]},
}


@pytest.mark.parametrize("trim", [False, True], ids=["full", "trimmed"])
@pytest.mark.parametrize("stale", STALE)
def test_merged_is_another_base(stale: str, trim: bool, tmp_path: Path) -> None:
    """Whatever it remembers: in memory, in a pickle, or on it by an older version."""
    model = trim_elements(make_model(), [1, 6, 8]) if trim else make_model()
    inject_lora(model, rank=2)
    perturb(model)
    save_adapter(model, tmp_path / "a")
    merged = merge_lora_weights(model)
    for name, value in STALE[stale].items():
        setattr(merged, name, value)
    torch.save(merged, tmp_path / "m.model")
    again = torch.load(tmp_path / "m.model", weights_only=False)
    for one in (merged, again, copy.deepcopy(merged)):
        with pytest.raises(UserError, match="belongs to the base"):
            load_adapter(one, tmp_path / "a")
        inject_lora(one, rank=2)
        save_adapter(one, tmp_path / "b")
        with pytest.raises(UserError, match="belongs to the base"):
            load_adapter(make_model(), tmp_path / "b")
        unload_lora(one)
        load_adapter(one, tmp_path / "b")  # a base of its own
        unload_lora(one)


def test_a_trimmed_base_is_refused(tmp_path: Path) -> None:
    save_adapter(trained(), tmp_path)
    with pytest.raises(UserError, match="trimmed to some elements; load the adapter onto the full"):
        load_adapter(trim_elements(make_model(), [1, 6, 8]), tmp_path)


def test_models_of_any_make(tmp_path: Path) -> None:
    """Fresh from MACE's class, with several heads, or of no MACE at all."""
    fresh = upstream("mace.modules").MACE(**arguments())
    heads = make_model(next(case for case in CASES if case.name == "two_heads"))
    plain = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)).double()
    for i, model in enumerate((fresh, heads, plain)):
        weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        inject_lora(model, rank=1)
        perturb(model)
        changes = {name: x.delta().detach().clone() for name, x in lora_layers(model)}
        save_adapter(model, tmp_path / str(i))
        assert not read_card(tmp_path / str(i))["replay"]
        unload_lora(model)
        for name, p in model.named_parameters():
            assert torch.equal(p, weights[name])
        load_adapter(model, tmp_path / str(i))
        for name, layer in lora_layers(model):
            assert torch.equal(layer.delta(), changes[name]) and changes[name].abs().max() > 1e-3


def arguments() -> dict:
    """Those of MACE's class for a model with a coupling that symmetry forbids."""
    modules = upstream("mace.modules")
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    irreps = o3.Irreps("4x0e + 4x1o + 4x2e")
    return {
        "r_max": 4.0,
        "num_bessel": 4,
        "num_polynomial_cutoff": 5,
        "max_ell": 1,
        "interaction_cls": block,
        "interaction_cls_first": block,
        "num_interactions": 2,
        "num_elements": 2,
        "hidden_irreps": irreps,
        "MLP_irreps": o3.Irreps("6x0e"),
        "atomic_energies": np.array([-1.0, -2.0]),
        "avg_num_neighbors": 6.0,
        "atomic_numbers": [1, 8],
        "correlation": 2,
        "gate": torch.nn.functional.silu,
    }


def test_upstreams_adapters_are_not_wrapped() -> None:
    model = make_model()
    upstream("mace.modules.lora").inject_lora(model, rank=2)
    with pytest.raises(ValueError, match="LoRA layers of MACE's own"):
        inject_lora(model)


def test_nothing_of_an_earlier_save_is_left(tmp_path: Path) -> None:
    """Of whole weights, then of an adapter, then of one with whole modules, and back."""
    base, states = make_model(), []
    whole = trim_elements(base, [1, 6, 8])
    with torch.no_grad():
        next(whole.parameters()).mul_(1.1)
    one, other = make_model(), make_model()
    inject_lora(one, rank=2)
    inject_lora(other, rank=1, modules_to_save=["readouts"])
    saves = [
        lambda: save_weights(whole, base, tmp_path),
        lambda: save_adapter(one, tmp_path),
        lambda: save_adapter(other, tmp_path),
        lambda: save_adapter(one, tmp_path),
    ]
    for save in saves:
        save()
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted([CARD, TENSORS])
        model = make_model()
        load_adapter(model, tmp_path)
        states.append(sorted(model.state_dict()))
    assert states[1] == states[3] != states[2] != states[0]


@pytest.mark.parametrize("at", range(6))
def test_a_save_that_breaks_off(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any of its renames: the old one, the new one, or none; never a mixture."""
    old, new = make_model(), make_model()
    inject_lora(old, rank=2)
    inject_lora(new, rank=3)
    save_adapter(old, tmp_path)
    calls, rename = [], Path.replace

    def failing(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == at:
            raise OSError(28, "no space left on device", str(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", failing)
    if 0 < at <= 4:
        with pytest.raises(OSError, match="no space left"):
            save_adapter(new, tmp_path)
    else:
        save_adapter(new, tmp_path)
    monkeypatch.undo()
    assert {p.name for p in tmp_path.iterdir()} <= {CARD, TENSORS}
    model = make_model()
    if at in (3, 4):  # between the two renames there is no card
        with pytest.raises(UserError, match="no such file"):
            load_adapter(model, tmp_path)
    else:
        rank = load_adapter(model, tmp_path)["rank"]
        assert rank == (2 if at in (1, 2) else 3)
    assert len(calls) == min(at or 4, 4)


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
