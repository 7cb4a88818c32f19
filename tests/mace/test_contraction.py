"""Folded contractions: the same energies, forces and training, on every architecture."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from lora import inject_lora
from lora.adapters.inject import lora_layers
from lora.adapters.products import ContractionHost
from lora.mace.fast.contraction import FoldedContractions, fold
from lora.mace.fast.convolution import fuse
from lora.mace.graphs import graphs
from lora.mace.kernels import to_kernel
from lora.training.loop import Fit
from tests.support import counts
from tests.support.models import (
    CASES,
    IDS,
    OUTPUTS,
    Case,
    difference,
    make_model,
    outputs,
    perturb,
    structures,
)
from tests.support.packs import POINTS, of_point, packed

CHANGES: dict[str, Callable] = {"fold": fold, "fuse": fuse}
ROWS = counts.covering(CASES[:7], CHANGES)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_folded_is_the_model(case: Case) -> None:
    model = make_model(case)
    inject_lora(model, rank=2)
    perturb(model)
    folded = copy.deepcopy(model)
    names = fold(folded)
    assert names == ["products.0.symmetric_contractions", "products.1.symmetric_contractions"]
    assert all(isinstance(folded.get_submodule(name), FoldedContractions) for name in names)
    a, b = outputs(folded), outputs(model)
    relative = 1e-12 if case.dtype == torch.float64 else 1e-4
    for key in OUTPUTS:
        assert np.abs(a[key] - b[key]).max() <= relative * np.abs(b[key]).max(), key
    assert difference(b, outputs(make_model(case))) > 1e-3


@pytest.mark.long
@pytest.mark.parametrize(("case", "name"), ROWS, ids=counts.named(ROWS))
def test_training_of_a_changed_pack(case: Case, name: str) -> None:
    """Folded contractions and fused convolutions: a training ends where it would without."""
    base, change = make_model(case), CHANGES[name]
    data, results = graphs(structures()[2:], base), []
    for changed in (False, True):
        pack, points = packed(base, POINTS[:2], {})
        if changed:
            assert change(pack.model)
        Fit(pack, points, data, data[:2]).run(lambda _: None)
        results.append([of_point(pack, i) for i in range(2)])
    for a, b in zip(*results, strict=True):
        for key in OUTPUTS:
            assert np.abs(a[key] - b[key]).max() <= 1e-8 * np.abs(b[key]).max(), key
    assert difference(results[0][0], outputs(base)) > 1e-4


def test_what_is_not_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    adapted = make_model()
    targets = {"include": ["products.0.*"], "symmetric_contraction": True}
    inject_lora(adapted, rank=2, targets=targets)
    assert fold(adapted) == ["products.1.symmetric_contractions"]
    assert any(isinstance(x.host, ContractionHost) for _, x in lora_layers(adapted))
    assert fold(to_kernel(make_model(), "cueq")) == []
    monkeypatch.setattr("lora.mace.fast.contraction.MOST_NUMBERS", 100)
    assert fold(make_model()) == []
