"""Fused convolutions: the same energies, forces and training, on every architecture."""

import copy

import numpy as np
import pytest
import torch
from ase import Atoms

import lora.mace.fast.convolution
from lora import inject_lora
from lora.data.structures import ENERGY, FORCES
from lora.mace.fast.autograd import join, spread
from lora.mace.fast.convolution import FusedConvolution, fuse, unfuse
from lora.mace.kernels import to_kernel
from tests.support import counts
from tests.support.models import CASES, OUTPUTS, Case, difference, make_model, outputs, perturb

PADDING = {"edge by edge": 0.0, "auto": 2.0, "padded": 1e9}
ROWS = counts.covering(CASES, PADDING)


@pytest.mark.long
@pytest.mark.parametrize(("case", "edges"), ROWS, ids=counts.named(ROWS))
def test_fused_is_the_model(case: Case, edges: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora.mace.fast.convolution, "MOST_PADDING", PADDING[edges])
    model = make_model(case)
    inject_lora(model, rank=2)
    perturb(model)
    fused = copy.deepcopy(model)
    assert fuse(fused) == ["interactions.0", "interactions.1"]
    assert fuse(fused) == []
    a, b = outputs(fused), outputs(model)
    relative = 1e-12 if case.dtype == torch.float64 else 1e-4
    for key in OUTPUTS:
        assert np.abs(a[key] - b[key]).max() <= relative * np.abs(b[key]).max(), key
    assert difference(b, outputs(make_model(case))) > 1e-3


def test_no_edges_at_all() -> None:
    lone = Atoms("N")
    lone.info[ENERGY], lone.arrays[FORCES] = 0.0, np.zeros((1, 3))
    fused = make_model()
    fuse(fused)
    a, b = outputs(fused, [lone]), outputs(make_model(), [lone])
    assert a["energy"] == pytest.approx(b["energy"], rel=1e-12)
    assert not a["forces"].any()


def test_unfused_is_as_before() -> None:
    """Nothing of ours is left that a saved model would need, and no weight has moved."""
    model, before = make_model(), make_model()
    fuse(model)
    assert any(isinstance(x, FusedConvolution) for x in model.modules())
    unfuse(model)
    assert not any(isinstance(x, FusedConvolution) for x in model.modules())
    assert not any(hasattr(block, "conv_fusion") for block in model.interactions)
    a, b = model.state_dict(), before.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_other_kernels_are_left_alone() -> None:
    assert fuse(to_kernel(make_model(), "cueq")) == []


def test_rows_and_their_gradients() -> None:
    """Values and first and second gradients against torch's own `cat` and indexing."""
    torch.manual_seed(0)
    a = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    place = torch.tensor([5, 0, 3])
    assert torch.equal(join(a, b), torch.cat([a, b], dim=-1))
    expected = torch.zeros(7, 2, dtype=torch.float64)
    expected[place] = a.detach()
    assert torch.equal(spread(a, place, 7), expected)
    for function, inputs in ((join, (a, b)), (lambda x: spread(x, place, 7), (a,))):
        squared = lambda *x, f=function: f(*x) ** 3  # noqa: E731
        assert torch.autograd.gradcheck(squared, inputs)
        assert torch.autograd.gradgradcheck(squared, inputs)
