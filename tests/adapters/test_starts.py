"""Starts of adapters: each is the base, each trains, and those with frozen columns keep them."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lora import inject_lora, load_adapter, merge_lora_weights, save_adapter
from lora.adapters.algebra import add_adapters, truncate_lora
from lora.adapters.inject import lora_layers, take_adapters
from lora.adapters.layer import Adapter
from lora.adapters.pack import Pack
from lora.catalogue.methods import ALONG_GRADIENT, ANCHORED, LOSS_TERMS, SHARED, STARTS
from lora.errors import Paused
from lora.mace.elements import trim_elements
from lora.mace.graphs import batches, graphs
from lora.mace.loss import loss_of
from lora.mace.modules import count_parameters
from lora.plan.settings import TrainSettings
from lora.steps.train import train_pack
from lora.training.interrupt import Interrupt
from lora.training.loop import Fit
from lora.training.starts import along_gradient
from lora.training.state import TrainingState
from lora.training.trainees import AdapterPack, Single
from tests.support.models import OUTPUTS, difference, make_model, outputs, perturb, structures
from tests.support.packs import of_point, settings
from tests.support.trainings import QUICK, files, inputs, lines_of, same, stopped, teacher_data  # noqa: F401

EVERYWHERE = {"skip_tp": True, "symmetric_contraction": True}


def started(start: str, base: nn.Module, rank: int = 3, **more: object) -> nn.Module:
    """A copy of the base with adapters at a start."""
    model = copy.deepcopy(base)
    asks_data = start in ALONG_GRADIENT
    own = {"start": "documented" if asks_data else start, "targets": EVERYWHERE, **more}
    torch.manual_seed(3)
    inject_lora(model, rank=rank, alpha=2.0, **own)
    if asks_data:
        data = graphs(teacher_data(6, seed=0), model)
        along_gradient(settings(rank=rank, start=start, batch_size=3), data)(model)
    return model


def largest(model: nn.Module, side: str) -> float:
    return max(float(layer.get_parameter(side).abs().max()) for _, layer in lora_layers(model))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("scaling", ["mace", "rank_stable"])
def test_each_start_is_the_base(start: str, scaling: str) -> None:
    base = make_model()
    before, model = outputs(base), started(start, base, scaling=scaling)
    at_start = outputs(model)
    for key in OUTPUTS:
        assert np.abs(at_start[key] - before[key]).max() <= 1e-12 * np.abs(before[key]).max()
    assert largest(model, "lora_A") > 0
    assert (largest(model, "lora_B") > 0) == (start in ANCHORED)
    plain = started("documented", base, scaling=scaling)
    trained, of_plain = (count_parameters(x)[0] for x in (model, plain))
    assert trained < 0.6 * of_plain if start == SHARED else trained == of_plain
    perturb(model)
    assert difference(outputs(model), before) > 1e-3
    merged = merge_lora_weights(model, inplace=False)
    assert difference(outputs(merged), outputs(model)) < 1e-9


def test_pissa_has_the_largest_singular_values_of_the_weight() -> None:
    model = started("pissa", make_model(), rank=2)
    for name, layer in lora_layers(model):
        pairs, weight = layer.factors(), layer.host.matrices(layer.base_weight())
        for part, (left, right) in pairs.items():
            trained = layer.scale * left[:, 2:] @ right[2:]
            u, values, v = torch.linalg.svd(weight[part].detach(), full_matrices=False)
            wanted = (u[:, :2] * values[:2]) @ v[:2]
            assert (trained - wanted).abs().max() < 1e-12, (name, part)
            assert torch.equal(left[:, :2], left[:, 2:]) and torch.equal(right[:2], -right[2:])
            assert wanted.abs().max() > 1e-3 or not weight[part].any()


def test_gradient_is_that_of_the_weights() -> None:
    """A spans what the whole weights' own gradient spans, taken without any adapter."""
    base = make_model()
    one = settings(rank=2, start="gradient", batch_size=3)
    data = graphs(teacher_data(6, seed=0), base)
    model = copy.deepcopy(base)
    inject_lora(model, rank=2, alpha=2.0)  # layers whose weight is one parameter
    along_gradient(one, data)(model)
    for parameter in base.parameters():
        parameter.requires_grad_(True)
    loss = loss_of(one, next(base.parameters()))
    assert LOSS_TERMS[one.loss] == ("energy", "forces")
    for batch in batches(data, 3, "cpu"):
        loss(pred=base(batch.to_dict(), training=True), ref=batch).backward()
    for name, layer in lora_layers(model):
        assert layer.probe is None
        gradient = base.get_submodule(name).weight.grad
        for part, matrix in layer.host.matrices(gradient).items():
            left, right = layer.factors()[part]
            first = layer.host.outputs_first
            side, matrix = (right.T, matrix.T) if first else (left, matrix)
            values = torch.linalg.svdvals(matrix)
            q, _ = torch.linalg.qr(side)
            caught = torch.linalg.svdvals(q.T @ matrix)
            n = min(2, len(values))
            assert torch.allclose(caught[:n], values[:n], rtol=1e-8, atol=1e-14), (name, part)
            assert not (left if first else right).any()


def columns(layer: Adapter) -> dict[str, torch.Tensor]:
    """Which columns of A are not zero, of each irrep."""
    axis = -1 if layer.host.outputs_first else -2
    return {k: x.any(axis) for k, x in layer.matrices("lora_A", layer.values()).items()}


def test_irreps_keep_the_columns_with_the_largest_gradients() -> None:
    """Half of the numbers train, and no column that was lost is worth more than one that stayed."""
    base = make_model()
    whole, model = (started(x, base, rank=6) for x in ALONG_GRADIENT)
    kept, lost, numbers, left = [], [], 0, 0
    probe_gradients(whole)
    for (name, layer), (_, other) in zip(lora_layers(whole), lora_layers(model), strict=True):
        assert not other.lora_B.any()
        steps = layer.matrices("lora_B", {"lora_B": layer.lora_B.grad})
        for part, a in layer.matrices("lora_A", layer.values()).items():
            step = steps[part].mT if layer.host.outputs_first else steps[part]
            size = a.numel() // layer.rank + step.shape[1]
            worth = step.square().sum(dim=1) / size
            stays = columns(other)[part]
            numbers, left = numbers + size * layer.rank, left + size * int(stays.sum())
            assert stays[worth.argmax()], (name, part)
            first = torch.arange(len(worth)) == worth.argmax()
            kept += worth[stays & ~first].tolist()
            lost += worth[~stays].tolist()
            own = other.matrices("lora_A", other.values())[part]
            axis = -2 if layer.host.outputs_first else -1
            where = torch.where(stays)[0]
            assert torch.equal(own.index_select(axis, where), a.index_select(axis, where))
    assert len(kept) > 5 and len(lost) > 20
    assert min(kept) >= max(lost) * (1 - 1e-9)
    assert 0.4 * numbers < left <= 0.5 * numbers
    ranks = {int(x.sum()) for _, layer in lora_layers(model) for x in columns(layer).values()}
    assert len(ranks) > 2


def probe_gradients(model: nn.Module) -> None:
    """Fill B's gradient of the loss of the batches that the start looks at."""
    one = settings(rank=6, start="gradient", batch_size=3)
    loss = loss_of(one, next(model.parameters()))
    for batch in batches(graphs(teacher_data(6, seed=0), model), 3, "cpu"):
        loss(pred=model(batch.to_dict(), training=True), ref=batch).backward()


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_lost_columns_stay_lost(kind: str) -> None:
    base = make_model()
    pack, before = fitted(base, [(SHARED, 4)], steps=10, kind=kind)
    model = pack.dissolve(0)
    start = dict(lora_layers(started(SHARED, base, 4, kind=kind)))
    assert (pack.rows[0] != before[0]).any()
    for name, layer in lora_layers(model):
        for part, of_start in columns(start[name]).items():
            assert torch.equal(columns(layer)[part], of_start), (name, part)
    fresh = started(SHARED, base, 4, kind=kind)
    assert count_parameters(model)[0] == count_parameters(fresh)[0]
    assert difference(outputs(model), outputs(base)) > 1e-4


def fitted(
    base: nn.Module, points: list[tuple[str, int]], steps: int = 5, kind: str = "lora"
) -> tuple:
    """A pack of points of (start, rank), trained for some steps."""
    model, layers = copy.deepcopy(base), []
    for start, rank in points:
        layers.append(take_adapters(started(start, base, rank, kind=kind)))
    pack = Pack(model, layers)
    own = [settings(rank=rank, start=start, lr=0.01, method=kind) for start, rank in points]
    trainee = AdapterPack(pack)
    states = [
        TrainingState(p, s, d)
        for p, s, d in zip(trainee.trained(), own, trainee.decayed(), strict=True)
    ]
    data = graphs(structures(), base)
    fit = Fit(trainee, states, data, data[:2])
    batch = next(batches(data, 3, "cpu"))
    before = [row.detach().clone() for row in pack.rows]
    for _ in range(steps):
        fit.train_step(batch, list(range(len(points))))
    return pack, before


def test_a_point_in_a_pack_is_the_point_alone() -> None:
    base = make_model()
    points = [("pissa", 1), ("documented", 3), ("pissa", 2), ("gradient", 2), (SHARED, 4)]
    pack, before = fitted(base, points)
    for i, point in enumerate(points):
        still, row = pack.still[i], pack.rows[i].detach()
        assert (still is None) == (point[0] != "pissa")
        if still is not None:  # not one bit of it has moved
            assert still.any() and torch.equal(row[still], before[i][still])
        assert (row != before[i]).any()
        places = pack.places(i)
        assert not row[~places].any()
    alone = [fitted(base, [point])[0] for point in points]
    start = outputs(base)
    for i in range(len(points)):
        a, b = of_point(pack, i), of_point(alone[i], 0)
        for key in OUTPUTS:
            assert np.abs(a[key] - b[key]).max() <= 1e-8 * np.abs(b[key]).max(), (points[i], key)
        assert difference(b, start) > 1e-4


def test_frozen_columns_of_a_model_alone() -> None:
    model = started("pissa", make_model())
    batch = next(batches(graphs(structures(), model), 3, "cpu"))
    out = model(batch.to_dict(), training=True)
    out["forces"].square().sum().backward()
    for _, layer in lora_layers(model):
        for name, still in layer.still().items():
            grad = layer.get_parameter(name).grad
            assert not grad[still].any()
    assert any(layer.lora_A.grad[~layer.still()["lora_A"]].any() for _, layer in lora_layers(model))


def test_frozen_columns_do_not_decay() -> None:
    model = started("pissa", make_model())
    (decayed,) = Single(model).decayed()
    (packed,) = AdapterPack(fitted(make_model(), [("pissa", 2)], steps=0)[0]).decayed()
    assert not packed["factors"].all() and packed["factors"].any()
    for name, layer in lora_layers(model):
        for key, still in layer.still().items():
            where = decayed.get(f"{name}.{key}")
            assert where is None or torch.equal(where.bool(), ~still)
    assert len(decayed) > 2


@pytest.mark.parametrize("start", ANCHORED)
def test_files_and_algebra(start: str, tmp_path: Path) -> None:
    base = make_model()
    trimmed = trim_elements(base, [1, 6, 8])
    inject_lora(trimmed, rank=2, alpha=3.0, start=start, targets=EVERYWHERE)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, layer in lora_layers(trimmed):
            for name, still in layer.still().items():
                value = layer.get_parameter(name)
                noise = torch.randn(value.shape, generator=generator, dtype=value.dtype)
                value.add_(0.3 * noise * ~still)
    known = [a for a in structures() if set(a.numbers) <= {1, 6, 8}]
    wanted = outputs(trimmed, known)
    save_adapter(trimmed, tmp_path / "a")
    loaded = copy.deepcopy(base)
    load_adapter(loaded, tmp_path / "a")
    assert difference(outputs(loaded, known), wanted) < 1e-9
    assert difference(outputs(base, known), wanted) > 1e-3

    cut = copy.deepcopy(loaded)
    ranks = truncate_lora(cut, energy=1.0)  # plain adapters of up to twice the rank
    assert max(ranks.values()) == 4 and not any(layer.frozen for _, layer in lora_layers(cut))
    assert difference(outputs(cut, known), wanted) < 1e-9
    save_adapter(cut, tmp_path / "cut")
    again = copy.deepcopy(base)
    load_adapter(again, tmp_path / "cut")
    assert difference(outputs(again, known), wanted) < 1e-9

    twice = copy.deepcopy(base)
    add_adapters(twice, {tmp_path / "a": 0.5, tmp_path / "cut": 0.5})
    assert difference(outputs(twice, known), wanted) < 1e-9


@pytest.mark.parametrize("start", ["pissa", "gradient", SHARED])
def test_stopped_and_gone_on(
    start: str,
    inputs: dict,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = TrainSettings(rank=1, start=start, **{**QUICK, "batch_size": 3})
    other = replace(one, rank=2, start="documented")

    def run(home: Path) -> list[dict]:
        return train_pack({home / "a": one, home / "b": other}, **inputs, work=home / "work")

    whole = run(tmp_path / "whole")
    assert whole[0]["best"]["valid_loss"] < 0.9 * first_loss(tmp_path / "whole/a")
    steps = [0]

    def every_fourth(self: Interrupt) -> None:
        steps[0] += 1
        if steps[0] % 4 == 0:
            raise Paused("a test")

    monkeypatch.setattr(Interrupt, "check", every_fourth)
    assert stopped(lambda: run(tmp_path / "stopped"))
    assert steps[0] > 8
    for name in "ab":
        assert same(tmp_path / "whole" / name, tmp_path / "stopped" / name)


def first_loss(folder: Path) -> float:
    return lines_of(folder)[0]["valid_loss"]


def test_what_a_gradient_lacks_stays_random() -> None:
    """No gradient, or one of rank one, leaves columns that train."""
    model = started("documented", make_model(), rank=2)
    for _, layer in lora_layers(model):
        before = layer.lora_A.detach().clone()
        layer.start_from(torch.zeros_like(layer.base_weight()))
        assert torch.equal(layer.lora_A, before) and not layer.lora_B.any()
    layer = dict(lora_layers(model))["interactions.1.linear_up"]
    one = {k: torch.ones_like(x) for k, x in layer.host.matrices(layer.base_weight()).items()}
    random = {k: left[:, 1].clone() for k, (left, _) in layer.factors().items()}
    layer.start_from(layer.host.assemble(one))
    for part, (left, _) in layer.factors().items():
        assert torch.allclose(left[:, 0], torch.ones_like(left[:, 0]))
        assert torch.equal(left[:, 1], random[part])


def test_frozen_columns_have_no_other_start() -> None:
    (_, layer), *_ = lora_layers(started("pissa", make_model()))
    with pytest.raises(ValueError, match="injected with pissa"):
        layer.start_from(layer.base_weight())


def test_a_start_that_needs_data_says_so() -> None:
    with pytest.raises(
        ValueError, match="gradient needs structures.*along_gradient.*docs/library.md"
    ):
        inject_lora(make_model(), rank=1, start="gradient")
