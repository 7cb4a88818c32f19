"""Hot swap: one adapter for another on a model, and the old one where the new one is refused."""

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
from tests.support.adapted import PRODUCTS, base, same, state
from tests.support.models import BASE, difference, make_model, outputs, perturb

WHOLE = {"modules_to_save": ["readouts"]}


def trained(kind: str, seed: int, **more: object) -> nn.Module:
    """A model with adapters that are plainly not zero, a readout that trained and an E0."""
    model = make_model()
    inject_lora(model, rank=1 + seed, alpha=2.0, kind=kind, targets=PRODUCTS, **more)
    perturb(model, seed=seed)
    with torch.no_grad():
        for parameter in model.readouts.parameters():
            if parameter.requires_grad:
                parameter.mul_(1 + seed)
    set_e0s(model, {"H": -10.0 - seed})
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An adapter of every kind, the first a second time with whole readouts."""
    folder = tmp_path_factory.mktemp("saved")
    for i, kind in enumerate(KINDS):
        save_adapter(trained(kind, 1 + i), folder / kind)
    save_adapter(trained(next(iter(KINDS)), 3, **WHOLE), folder / "whole")
    return {name: folder / name for name in (*KINDS, "whole")}


def test_swapped_is_loaded(saved: dict[str, Path]) -> None:
    """From every kind to the next, round again, beginning with a bare base."""
    model, seen = make_model(), [outputs(base())]
    for name in (*saved, *list(saved)[-2::-1]):
        loaded = make_model()
        load_adapter(loaded, saved[name])
        assert swap_adapter(model, saved[name]) == read_card(saved[name])
        assert same(model, loaded) and injection_of(model) == injection_of(loaded)
        found = outputs(model)
        assert difference(found, outputs(loaded)) == 0
        seen.append(found)
    for one, other in itertools.pairwise(seen):
        assert difference(one, other) > 1e-3
    assert same(unload_lora(model), base())


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
    save_weights(trim_elements(base(), [1, 6, 8]), base(), folder)


REFUSED = {
    "belongs to the base": of_another_base,
    "does not match the checksum": damaged,
    "does not fit the model at": of_other_layers,
    "holds whole weights, which overwrite the base": whole_weights,
    "no such file": lambda folder: None,
}


@pytest.mark.parametrize(("said", "more"), zip(REFUSED, [{}, {}, WHOLE, WHOLE, {}], strict=True))
def test_the_old_one_stays_where_the_new_one_is_refused(
    said: str, more: dict, tmp_path: Path
) -> None:
    REFUSED[said](tmp_path / "new")
    model = trained("lora", 2, **more)
    layers, how = dict(lora_layers(model)), injection_of(model)
    before, found = state(model), outputs(model)
    with pytest.raises(UserError, match=said) as caught:
        swap_adapter(model, tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert dict(lora_layers(model)) == layers and injection_of(model) is how
    assert same(before, model) and difference(outputs(model), found) == 0
    save_adapter(model, tmp_path / "old")  # it still belongs to its base,
    copied = make_model()
    load_adapter(copied, tmp_path / "old")
    assert difference(outputs(copied), found) == 0
    assert same(unload_lora(model), base())  # which is there, to the last bit
    assert difference(outputs(model), found) > 1e-3


def test_nothing_is_swapped_while_adapters_are_disabled(saved: dict[str, Path]) -> None:
    model = trained("lora", 2, **WHOLE)
    before = state(model)
    with disabled(model), pytest.raises(ValueError, match="unload outside of `with disabled"):
        swap_adapter(model, saved["lora"])
    assert same(before, model)
