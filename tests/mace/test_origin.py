"""Which base a model is: by its weights, and by our own steps only while they are as made."""

import copy
import io
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from lora import inject_lora
from lora.adapters.inject import merge_lora_weights
from lora.mace.elements import restore_elements, set_e0s, trim_elements
from lora.mace.heads import two_heads
from lora.mace.kernels import from_kernel, to_kernel
from lora.mace.origin import digests, fingerprint, origin_of
from tests.support.models import BASE, make_model, perturb


def on_cueq(model: nn.Module) -> nn.Module:
    pytest.importorskip("cuequivariance_torch")
    return to_kernel(model, "cueq")


STEPS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "trimmed": lambda model: trim_elements(model, [1, 6, 8]),
    "trimmed_twice": lambda model: trim_elements(trim_elements(model, [1, 6, 8]), [1, 8]),
    "two_heads": two_heads,
    "cueq": on_cueq,
    "all": lambda model: on_cueq(trim_elements(two_heads(model), [1, 8])),
    "there_and_back": lambda model: from_kernel(on_cueq(trim_elements(model, [1, 8])), "cueq"),
}


def pickled(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("step", STEPS)
def test_copies_of_our_own_are_their_base_until_they_change(step: str) -> None:
    base = make_model()
    made, name = STEPS[step](base), fingerprint(base)
    assert fingerprint(made) != name  # it has other weights
    assert origin_of(made).base == origin_of(copy.deepcopy(made)).base == name
    set_e0s(made, {"H": -7.0})
    assert origin_of(made).base == name  # E0s do not count
    with torch.no_grad():
        next(p for p in made.parameters() if p.numel()).mul_(1.01)
    assert origin_of(made).base == fingerprint(made) != name


@pytest.mark.parametrize("step", ["trimmed", "two_heads"])
def test_no_pickle_says_what_it_came_from(step: str) -> None:
    made = STEPS[step](make_model())
    again = pickled(made)
    assert digests(again) == digests(made)
    assert origin_of(again).base == fingerprint(made) != origin_of(made).base


def test_scale_and_shift_make_another_base() -> None:
    base = trimmed = trim_elements(make_model(), [1, 8])
    for model in (make_model(), trimmed):
        before = origin_of(model).base
        model.scale_shift.scale *= 1.5
        assert origin_of(model).base != before
    assert origin_of(base).kept == ()  # a base of its own now


def test_injected_models_are_the_base_under_their_adapters() -> None:
    model = make_model()
    name = fingerprint(model)
    inject_lora(model, rank=2, targets={"skip_tp": True, "symmetric_contraction": True})
    perturb(model)
    assert fingerprint(model) == origin_of(model).base == name
    assert origin_of(pickled(model)).base == name
    merge_lora_weights(model)
    assert origin_of(model).base == fingerprint(model) != name


def test_elements_of_a_model_trimmed_twice() -> None:
    base = make_model()
    twice = trim_elements(trim_elements(base, [1, 6, 8]), [1, 8])
    assert origin_of(twice).kept == (0, 3) and origin_of(twice).n_elements == 4
    restored = restore_elements(twice, make_model(replace(BASE, seed=1)))
    rows = (restored, base)
    a, b = (x.products[0].symmetric_contractions.contractions[0].weights_max for x in rows)
    assert torch.equal(a[[0, 3]], b[[0, 3]]) and not torch.equal(a[1], b[1])
    with pytest.raises(ValueError, match="not trimmed by trim_elements"):
        restore_elements(base, base)
