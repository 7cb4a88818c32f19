"""cuEquivariance and OpenEquivariance: conversion, LoRA on converted models, refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lora import inject_lora, load_adapter, load_foundation, merge_lora_weights
from lora.adapters.inject import lora_layers
from lora.adapters.lora import LoRAO3Linear
from lora.data.labels import reference
from lora.errors import UserError
from lora.mace.door import default_dtype, is_cueq, o3, upstream
from lora.mace.graphs import graphs
from lora.mace.kernels import from_kernel, rounded, to_kernel
from lora.mace.modules import count_parameters
from lora.mace.predict import predict
from lora.plan.settings import TrainSettings
from lora.steps.train import train
from tests.support import counts
from tests.support.models import BASE, CASES, difference, make_model, outputs, perturb
from tests.support.trainings import QUICK, teacher_data

CUEQ_CONFIG = {"enabled": True, "layout": "ir_mul", "optimize_all": True, "group": "O3_e3nn"}


def ours() -> nn.Module:
    model = to_kernel(make_model(), "cueq")
    config = upstream("mace.modules.wrapper_ops").CuEquivarianceConfig(**CUEQ_CONFIG)
    inject_lora(model, rank=2, cueq_config=config)
    return model


def upstreams() -> nn.Module:
    """In the order of mace_run_train: LoRA first, then the conversion."""
    model = make_model()
    upstream("mace.modules.lora").inject_lora(model, rank=2)
    with default_dtype(torch.float64):
        return upstream("mace.cli.convert_e3nn_cueq").run(model, device="cpu").eval()


@pytest.mark.parametrize(
    "injected",
    [
        ours,
        pytest.param(
            upstreams,
            marks=pytest.mark.xfail(
                strict=True, reason="ACEsuit/mace #1540: the conversion drops the adapters"
            ),
        ),
    ],
)
def test_lora_and_cueq_together(injected) -> None:
    model, base = injected(), make_model()
    assert any(map(is_cueq, model.modules()))
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trainable and all("lora_" in name for name in trainable)
    assert difference(outputs(model), outputs(base)) < 1e-12


@pytest.mark.long
@pytest.mark.parametrize("method", ["lora", "full", "freeze"][: counts.of(2, 3)])
def test_training_on_cueq_gives_what_training_on_e3nn_gives(
    files: dict[str, Path],
    inputs: dict,
    tmp_path: Path,
    method: str,
) -> None:
    settings = TrainSettings(method=method, rank=2, lr=0.02, **QUICK)
    records = {}
    for cueq in (False, True):
        own = replace(settings, enable_cueq=cueq)
        records[cueq] = train(own, **inputs, out=tmp_path / str(cueq))
    valid, forces = teacher_data(4, seed=1), []
    for cueq in (False, True):
        model = load_foundation(files["foundation"])  # the adapter is of the e3nn model
        load_adapter(model, tmp_path / str(cueq) / "adapter")
        forces.append(predict(model, graphs(valid, model))["forces"])
        for key in ("trainable_parameters", "best_epoch"):
            assert records[cueq][key] == records[False][key] > 0
    limit = 1e-9 if method == "lora" else 1e-6  # a contraction's whole weights: other coordinates
    assert np.abs(forces[0] - forces[1]).max() < limit
    rmse = 1e3 * np.sqrt(np.mean((forces[1] - reference(valid)["forces"]) ** 2))
    best = records[True]["best"]["valid_rmse_f_mev_per_a"]
    assert rmse == pytest.approx(best, rel=1e-8)
    base = make_model()
    assert np.abs(forces[0] - predict(base, graphs(valid, base))["forces"]).max() > 1e-3


def test_order_of_conversion_and_injection() -> None:
    config = upstream("mace.modules.wrapper_ops").CuEquivarianceConfig(**CUEQ_CONFIG)
    with pytest.raises(ValueError, match="convert it first"):
        inject_lora(make_model(), cueq_config=config)
    model = make_model()
    inject_lora(model)
    with pytest.raises(ValueError, match="convert the base first, then inject"):
        to_kernel(model, "cueq")
    model = ours()
    with pytest.raises(ValueError, match="merge first, then convert"):
        from_kernel(model, "cueq")


def test_a_disabled_config_changes_nothing() -> None:
    config = upstream("mace.modules.wrapper_ops").CuEquivarianceConfig(enabled=False)
    a, b = make_model(), make_model()
    assert inject_lora(a, cueq_config=config) == inject_lora(b)


def test_what_cannot_be_converted() -> None:
    with pytest.raises(UserError, match="MACE converts ScaleShiftMACE only"):
        to_kernel(make_model(next(case for case in CASES if case.cls == "MACE")), "cueq")


def test_a_flag_that_lies_about_the_couplings() -> None:
    """A model that asked for reduced couplings where cuEquivariance was missing has the others."""
    case = replace(BASE, correlation=3)
    model = make_model(case)
    model.use_reduced_cg = True
    assert difference(outputs(to_kernel(model, "cueq")), outputs(model)) < 1e-9


def test_a_conversion_that_loses_something_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    converter = upstream("mace.cli.convert_e3nn_cueq")
    original = converter.transfer_weights

    def sloppy(source: nn.Module, target: nn.Module, *rest: object) -> None:
        original(source, target, *rest)
        with torch.no_grad():
            target.interactions[1].linear_up.weight.mul_(1.001)

    monkeypatch.setattr(converter, "transfer_weights", sloppy)
    with pytest.raises(UserError, match="converted model's"):
        to_kernel(make_model(), "cueq")


def test_missing_kernels_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openequivariance", None)
    with pytest.raises(UserError, match="pip install openequivariance"):
        to_kernel(make_model(), "oeq")


def test_openequivariance() -> None:
    """Its package builds against CUDA or ROCm; where it is installed, LoRA runs on it."""
    pytest.importorskip("openequivariance")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = make_model()
    model = to_kernel(base, "oeq", device)
    inject_lora(model, rank=2)
    base = make_model()
    inject_lora(base, rank=2)
    perturb(model), perturb(base)
    assert set(dict(lora_layers(model))) == set(dict(lora_layers(base)))
    assert count_parameters(model)[0] == count_parameters(base)[0]
    assert difference(outputs(model), outputs(base)) < 1e-9
    back = from_kernel(merge_lora_weights(model), "oeq")
    assert difference(outputs(back), outputs(base)) < 1e-9


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
def test_packed_layer_in_both_layouts(layout: str) -> None:
    """A bare cuet.Linear, whatever the layout of its features, is K e3nn layers."""
    cue, cuet = upstream("cuequivariance"), upstream("cuequivariance_torch")
    group, irreps = upstream("mace.tools.cg").O3_e3nn, ("4x0e+3x1o", "2x0e+5x1o")
    with default_dtype(torch.float64):
        plain = o3.Linear(*irreps)
        other = cuet.Linear(
            *(cue.Irreps(group, x) for x in irreps), layout=getattr(cue, layout), method="naive"
        )
        x = torch.randn(6, 13)
    with torch.no_grad():
        other.weight.copy_(plain.weight.view_as(other.weight))
    weights = torch.randn(3, plain.weight_numel, dtype=torch.float64)
    expected = LoRAO3Linear(plain, rank=2).host.run_packed(weights, x)
    each = [plain(part, w) for part, w in zip(x.chunk(3), weights, strict=True)]
    assert torch.allclose(expected, torch.cat(each), atol=1e-12)

    def moved(values: torch.Tensor, of: str, back: bool) -> torch.Tensor:
        parts = []
        for piece, (mul, ir) in zip(o3.Irreps(of).slices(), o3.Irreps(of), strict=True):
            shape = (ir.dim, mul) if back else (mul, ir.dim)
            parts.append(values[:, piece].unflatten(1, shape).transpose(1, 2).flatten(1))
        return torch.cat(parts, dim=1)

    given = moved(x, irreps[0], back=False) if layout == "ir_mul" else x
    found = LoRAO3Linear(other, rank=2).host.run_packed(weights, given)
    found = moved(found, irreps[1], back=True) if layout == "ir_mul" else found
    assert torch.allclose(found, expected, atol=1e-12)


def test_a_base_made_in_float32_converts_in_float64() -> None:
    """Its couplings keep float32's digits, cuEquivariance's do not: more may differ than else."""
    case = replace(BASE, name="old", dtype=torch.float32, correlation=3, max_l=0)
    old = make_model(case).double()
    assert rounded(old) and not rounded(make_model(replace(BASE, correlation=3, max_l=0)))
    new = to_kernel(old, "cueq")
    assert 1e-12 < difference(outputs(old), outputs(new)) < 1e-6
    broken = make_model(case).double()
    with torch.no_grad():
        broken.products[0].symmetric_contractions.contractions[0].U_matrix_2.mul_(1.001)
    with pytest.raises(UserError, match="MACE cannot convert this model"):
        to_kernel(broken, "cueq")
