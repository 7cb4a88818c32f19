"""What public functions say of arguments of a wrong type: a line, and the model is as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import lora
from lora.errors import UserError
from lora.mace.origin import fingerprint
from tests.support.models import make_model

WRONG: dict[str, Callable[[Any, Any], Any]] = {
    "no model": lambda m, p: lora.inject_lora("base.model"),
    "no model to merge": lambda m, p: lora.merge_lora_weights("base.model"),
    "no model to unload": lambda m, p: lora.unload_lora(None),
    "no model to look at": lambda m, p: list(lora.lora_layers({})),
    "no model to save": lambda m, p: lora.save_adapter("base.model", p),
    "a rank in words": lambda m, p: lora.inject_lora(m, rank="4"),
    "an alpha in words": lambda m, p: lora.inject_lora(m, alpha="1"),
    "targets as a list": lambda m, p: lora.inject_lora(m, targets=["products.*"]),
    "a strange argument": lambda m, p: lora.inject_lora(m, ranks=4),
    "a list of kinds": lambda m, p: lora.inject_lora(m, kind=["lora"]),
    "a number of modules": lambda m, p: lora.inject_lora(m, modules_to_save=3),
    "a number as folder": lambda m, p: lora.load_adapter(m, 3),
    "a number as model": lambda m, p: lora.load_foundation(3),
    "a dtype in words": lambda m, p: lora.load_foundation("small", dtype="float64"),
    "no layer": lambda m, p: lora.LoRAO3Linear("x"),
    "a rank of a layer": lambda m, p: lora.LoRADenseLinear(nn.Linear(3, 3), rank=2.5),
}
SAID = {
    "no model": "model must be a torch.nn.Module, as load_foundation returns, got 'base.model'",
    "targets as a list": "must be a mapping",
    "a strange argument": "no argument ranks; did you mean rank?",
    "a number as folder": "folder must be a path, got 3",
    "a dtype in words": "dtype must be a torch.dtype, as torch.float64, got 'float64'",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_type_is_a_line(what: str, tmp_path: Path) -> None:
    model = make_model()
    before = fingerprint(model), {n: p.requires_grad for n, p in model.named_parameters()}
    with pytest.raises((TypeError, ValueError, UserError)) as caught:
        WRONG[what](model, tmp_path / "a")
    said = str(caught.value)
    assert SAID.get(what, "") in said and "\n" not in said and "has no attribute" not in said
    assert before == (
        fingerprint(model),
        {n: p.requires_grad for n, p in model.named_parameters()},
    )


def test_merging_a_model_without_adapters_says_so() -> None:
    with pytest.raises(ValueError, match="holds no LoRA layers, so there is nothing to merge"):
        lora.merge_lora_weights(make_model())
