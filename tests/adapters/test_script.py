"""An injected model compiles to TorchScript, as MACE's export for LAMMPS does it, unmerged."""

import copy
import io
import warnings
from dataclasses import replace

import pytest
import torch
from e3nn.util import jit

from lora import inject_lora
from lora.adapters.inject import lora_layers
from lora.adapters.linear import DenseHost, FCHost, O3Host
from lora.adapters.products import ContractionHost, SkipHost
from lora.mace.door import upstream
from lora.mace.graphs import batches, graphs
from lora.mace.scripted import scripted
from tests.support.models import BASE, Case, make_model, perturb, structures

HOSTS = {
    O3Host: {"include": ["*linear*"]},
    FCHost: {"include": ["*conv_tp_weights*"]},
    SkipHost: {"include": ["*skip_tp*"], "skip_tp": True},
    ContractionHost: {"include": ["*contractions"], "symmetric_contraction": True},
}
ROWS = [
    (replace(BASE, name=cls, cls=cls), host, targets)
    for cls in ("MACE", "ScaleShiftMACE")
    for host, targets in HOSTS.items()
]


@pytest.mark.parametrize(
    ("case", "host", "targets"), ROWS, ids=[f"{c.name}-{h.__name__}" for c, h, _ in ROWS]
)
def test_scripted_is_the_adapter(case: Case, host: type, targets: dict) -> None:
    base, model = make_model(case), make_model(case)
    inject_lora(model, rank=2, alpha=3.0, targets=targets)
    assert host in {type(layer.host) for _, layer in lora_layers(model)}
    perturb(model)
    start, before, scripted = (results(x) for x in (base, model, compiled(model)))
    for a, b, c in zip(start, before, scripted, strict=True):
        assert (a - b).abs().max() > 1e-3
        assert (b - c).abs().max() < 1e-9
    assert dict(lora_layers(model))  # a copy was compiled


def test_scripted_dense_layers_are_the_adapters() -> None:
    """By themselves: no block of MACE that has dense layers compiles, with adapters or without."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.SiLU(), torch.nn.Linear(7, 3))
    x, start = torch.randn(4, 5), copy.deepcopy(model)
    inject_lora(model, rank=2)
    assert {type(layer.host) for _, layer in lora_layers(model)} == {DenseHost}
    perturb(model)
    scripted = torch.jit.script(copy.deepcopy(model))
    assert (model(x) - scripted(x)).abs().max() < 1e-6
    assert (model(x) - start(x)).abs().max() > 1e-3


def test_export_for_lammps_takes_an_injected_model() -> None:
    model = make_model()
    inject_lora(model, rank=2, targets={"skip_tp": True, "symmetric_contraction": True})
    perturb(model)
    wrapped = upstream("mace.calculators").LAMMPS_MACE(model)
    scripted = compiled(wrapped)
    assert not any("lora" in name for name, _ in scripted.named_parameters())


def test_torch_taking_one_part_for_another_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch says it; it cannot be brought about, so it is made up."""
    original, said = jit.compile, []

    def compile_(model: torch.nn.Module, **options: object) -> torch.nn.Module:
        if len(said) < 2:
            said.append("Expected a value of type 'normalize2mom' for field 'act'")
            raise RuntimeError(said[-1])
        return original(model, **options)

    monkeypatch.setattr(jit, "compile", compile_)
    assert isinstance(scripted(make_model()), torch.jit.ScriptModule) and len(said) == 2
    monkeypatch.setattr(jit, "compile", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scripted(make_model())


def compiled(model: torch.nn.Module) -> torch.nn.Module:
    """The model in TorchScript, written and read again as LAMMPS does it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(scripted(model), file)
    file.seek(0)
    return torch.jit.load(file)


def results(model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies (eV) and forces (eV/Å) of the structures of the tests."""
    batch = next(batches(graphs(structures(), make_model()), 10)).to_dict()
    out = model(batch, training=False)
    return out["energy"].detach(), out["forces"].detach()
