"""Merging, for every kind: the merged model is the adapter, or is refused and nothing changed."""

import copy
import warnings
from pathlib import Path

import pytest
import torch

from lora import inject_lora, load_adapter, merge_lora_weights, save_adapter, unload_lora
from lora.adapters.algebra import add_adapters, scale_adapters, truncate_lora, unmerge
from lora.adapters.inject import lora_layers
from lora.adapters.kinds import KINDS
from lora.errors import UserError
from lora.mace.graphs import batches, graphs
from lora.mace.scripted import scripted
from tests.support.adapted import FEW, PRODUCTS, base, gap, injected, same, state
from tests.support.models import difference, make_model, outputs

each_kind = pytest.mark.parametrize("kind", KINDS)
NAN, INF = float("nan"), float("inf")


@each_kind
def test_merged_once(kind: str, tmp_path: Path) -> None:
    """All train again, under the names of the base; it is not merged twice, nor unloaded."""
    model, fresh = injected(kind), make_model()
    adapted = outputs(model, FEW)
    save_adapter(model, tmp_path)
    assert merge_lora_weights(model) is model
    assert difference(outputs(model, FEW), adapted) < 1e-9 and gap(model, fresh) > 1e-3
    assert model.state_dict().keys() == fresh.state_dict().keys() and type(model) is type(fresh)
    assert all(p.requires_grad for p in model.parameters()) and not dict(lora_layers(model))
    merged = state(model)
    with pytest.raises(ValueError, match="holds no LoRA layers, so there is nothing to merge"):
        merge_lora_weights(model)
    with pytest.raises(ValueError, match="holds no LoRA layers"):
        unload_lora(model)
    with pytest.raises(UserError, match="belongs to the base"):
        load_adapter(model, tmp_path)  # which would add it a second time
    assert same(merged, model)
    fresh.load_state_dict(model.state_dict())
    assert gap(fresh, model) == 0


@each_kind
def test_merged_as_it_starts_is_the_base(kind: str) -> None:
    model, before = make_model(), base().state_dict()
    inject_lora(model, rank=2, targets=PRODUCTS, kind=kind)
    for name, weight in merge_lora_weights(model).state_dict().items():
        assert torch.allclose(weight, before[name], rtol=1e-13, atol=1e-13), name
    assert gap(model, injected(kind)) > 1e-3


@each_kind
def test_unmerged(kind: str, tmp_path: Path) -> None:
    """The base and its adapter again; of a kind that depends on the base, a refusal."""
    model = injected(kind)
    save_adapter(model, tmp_path)
    merged = merge_lora_weights(model, inplace=False)
    before = state(merged)
    if not KINDS[kind].linear:
        with pytest.raises(UserError, match=f"is a {kind} adapter, whose change depends on"):
            unmerge(merged, tmp_path)
    else:
        again = unmerge(merged, tmp_path)
        assert gap(again, model) < 1e-10
        save_adapter(again, tmp_path)  # and belongs to the base
        load_adapter(make_model(), tmp_path)
        assert gap(unload_lora(again), base()) < 1e-10
    assert same(before, merged)


@each_kind
def test_what_a_kind_cannot_do_is_said(kind: str, tmp_path: Path) -> None:
    """By what the row of the kind says of itself; the model is as it was, or is changed."""
    model = injected(kind)
    save_adapter(model, tmp_path)
    acts = {
        f"{kind}: adapters of this kind cannot be scaled, only retrained": (
            KINDS[kind].linear,
            lambda one: scale_adapters(one, 0.5),
        ),
        f"is a {kind} adapter, whose change depends on the base weight; it cannot be added": (
            KINDS[kind].linear,
            lambda one: add_adapters(unload_lora(one), {tmp_path: 0.5}),
        ),
        f"{kind}: adapters of this kind cannot be cut; train a lower rank": (
            KINDS[kind].can_be_cut,
            lambda one: truncate_lora(one, rank=1),
        ),
    }
    for said, (can, act) in acts.items():
        other = copy.deepcopy(model)
        if can:
            act(other)
            assert dict(lora_layers(other)) and gap(other, model) > 1e-4
            continue
        with pytest.raises(UserError, match=said) as caught:
            act(other)
        assert "\n" not in str(caught.value)
        assert same(other, model) or same(other, base())


# --- what is not finite

FIRST = "interactions.0.linear_up"
VALUES = [(kind, name) for kind in KINDS for name in KINDS[kind].axes]


@pytest.mark.parametrize(("kind", "name"), VALUES, ids=lambda x: x)
def test_a_parameter_that_is_not_finite_is_not_merged(kind: str, name: str, tmp_path: Path) -> None:
    model = injected(kind)
    place = model.get_parameter(f"{FIRST}.{name}").detach().view(-1)[-1:]
    was = place.clone()
    for value in (NAN, INF, -INF):
        place.fill_(value)
        before = state(model)
        for act in (
            lambda: merge_lora_weights(model),
            lambda: merge_lora_weights(model, inplace=False),
            lambda: save_adapter(model, tmp_path / "a"),
        ):
            with pytest.raises(ValueError, match=f"{FIRST}.{name} .* not finite") as caught:
                act()
            assert "\n" not in str(caught.value)
            assert same(before, model)
    place.copy_(was)
    assert gap(merge_lora_weights(model, inplace=False), model) < 1e-9  # nothing else kept it off
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("inplace", [True, False])
def test_a_merged_weight_that_is_not_finite_is_not_merged(inplace: bool) -> None:
    """In float32 the base, the factors and their change may all be, and the sum not."""
    model = injected("lora").float()
    layer = model.get_submodule(FIRST)
    with torch.no_grad():
        layer.base.weight.fill_(3e38)
        for factor in layer.values().values():
            factor.fill_(1.2e19)
        assert layer.delta().isfinite().all() and not layer.weight().isfinite().all()
    before = state(model)
    with pytest.raises(ValueError, match=f"{FIRST}.weight holds a number that is not finite"):
        merge_lora_weights(model, inplace)
    assert same(before, model)


# --- scripting


@each_kind
def test_scripted_is_merged(kind: str) -> None:
    """By MACE's own way to TorchScript; the model keeps its adapters."""
    model = injected(kind)
    before = state(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = scripted(model)
    assert compiled.state_dict().keys() == base().state_dict().keys()
    batch = next(batches(graphs(FEW, model), 2)).to_dict()
    out = compiled(batch, training=False)
    found = {key: out[key].detach().numpy() for key in ("energy", "forces")}
    for key, expected in outputs(model, FEW).items():
        if key in found:
            assert abs(found[key] - expected).max() < 1e-9, key
    assert same(before, model)
