"""Hot swap: one adapter for another on a model, and the old one where the new one is refused."""

import copy
import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lora import inject_lora, load_adapter, save_adapter, unload_lora
from lora.adapters.algebra import disabled
from lora.adapters.inject import injection_of, lora_layers
from lora.adapters.kinds import KINDS
from lora.adapters.saved import CARD, TENSORS, read_card, save_weights
from lora.adapters.swap import swap_adapter
from lora.errors import UserError
from lora.mace.elements import set_e0s, trim_elements
from tests.support.models import BASE, difference, make_model, outputs, perturb

PRODUCTS = {"skip_tp": True, "symmetric_contraction": True}


def trained(kind: str, seed: int, **more: object) -> nn.Module:
    """A model with adapters that are plainly not zero, a readout that trained and an E0."""
    model = make_model()
    inject_lora(model, rank=1 + seed, alpha=2.0, kind=kind, targets=PRODUCTS, **more)
    perturb(model, seed=seed)
    with torch.no_grad():
        for parameter in model.readouts.parameters():
            if "modules_to_save" in more:
                parameter.mul_(1 + seed)
    set_e0s(model, {"H": -10.0 - seed})
    return model


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: x.clone() for name, x in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An adapter of every kind, the first a second time with whole readouts."""
    folder = tmp_path_factory.mktemp("saved")
    for i, kind in enumerate(KINDS):
        save_adapter(trained(kind, 1 + i), folder / kind)
    save_adapter(trained(next(iter(KINDS)), 3, modules_to_save=["readouts"]), folder / "whole")
    return {name: folder / name for name in (*KINDS, "whole")}


def test_swapped_is_loaded(saved: dict[str, Path]) -> None:
    """From every kind to the next, round again, beginning with a bare base."""
    model, base, seen = make_model(), make_model(), [outputs(make_model())]
    for name in (*saved, *list(saved)[-2::-1], *list(saved)[1:]):
        loaded = make_model()
        load_adapter(loaded, saved[name])
        assert swap_adapter(model, saved[name]) == read_card(saved[name])
        assert same(state(model), state(loaded)) and injection_of(model) == injection_of(loaded)
        asked = {n for n, p in model.named_parameters() if p.requires_grad}
        assert asked == {n for n, p in loaded.named_parameters() if p.requires_grad}
        found = outputs(model)
        assert difference(found, outputs(loaded)) == 0
        seen.append(found)
    for one, other in itertools.pairwise(seen):
        assert difference(one, other) > 1e-3
    assert same(state(unload_lora(model)), state(base))


def of_another_base(folder: Path) -> None:
    model = make_model(replace(BASE, seed=1))
    inject_lora(model, rank=1)
    save_adapter(model, folder)


def damaged(folder: Path) -> None:
    save_adapter(trained("lora", 1), folder)
    (folder / TENSORS).write_bytes(b"abc")


def of_other_layers(folder: Path) -> None:
    """Found out after the adapters were put on: the tensors are of another rank."""
    save_adapter(trained("lora", 1), folder)
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {"seal": None, "rank": 5}))


def whole_weights(folder: Path) -> None:
    base = make_model()
    save_weights(trim_elements(base, [1, 6, 8]), base, folder)


REFUSED = {
    "belongs to the base": of_another_base,
    "does not match the checksum": damaged,
    "does not fit the model at": of_other_layers,
    "holds whole weights, which overwrite the base": whole_weights,
    "no such file": lambda folder: None,
}


@pytest.mark.parametrize("said", REFUSED)
@pytest.mark.parametrize("more", [{}, {"modules_to_save": ["readouts"]}], ids=["", "whole"])
def test_the_old_one_stays_where_the_new_one_is_refused(
    said: str, more: dict, tmp_path: Path
) -> None:
    REFUSED[said](tmp_path / "new")
    model = trained("lora", 2, **more)
    layers, how = dict(lora_layers(model)), injection_of(model)
    before, found = state(model), outputs(model)
    asked = [(n, p.requires_grad) for n, p in model.named_parameters()]
    with pytest.raises(UserError, match=said) as caught:
        swap_adapter(model, tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert dict(lora_layers(model)) == layers and injection_of(model) is how
    assert same(state(model), before) and difference(outputs(model), found) == 0
    assert [(n, p.requires_grad) for n, p in model.named_parameters()] == asked
    save_adapter(model, tmp_path / "old")  # it still belongs to its base,
    copied = make_model()
    load_adapter(copied, tmp_path / "old")
    assert difference(outputs(copied), found) == 0
    assert same(state(unload_lora(model)), state(make_model()))  # which is there, to the last bit
    assert difference(outputs(model), found) > 1e-3


def test_nothing_is_swapped_while_adapters_are_disabled(saved: dict[str, Path]) -> None:
    model = trained("lora", 2, modules_to_save=["readouts"])
    before = copy.deepcopy(state(model))
    with disabled(model), pytest.raises(ValueError, match="unload outside of `with disabled"):
        swap_adapter(model, saved["lora"])
    assert same(state(model), before)
