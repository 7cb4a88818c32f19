"""Tiny MACE models with random weights, in the shapes that users have, and structures for them."""

import copy
import hashlib
import io
import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch import nn

from lora.adapters.inject import lora_layers
from lora.data.structures import ENERGY, FORCES, STRESS
from lora.mace.door import default_dtype, o3, upstream
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from tests.support import forkserver


@dataclass(frozen=True)
class Case:
    """One architecture; the fields are the arguments of MACE's model classes."""

    name: str
    cls: str = "ScaleShiftMACE"
    channels: int = 4
    layers: int = 2
    max_l: int = 1
    max_ell: int = 2
    correlation: int = 2
    first: str = "RealAgnosticResidualInteractionBlock"
    interaction: str = "RealAgnosticResidualInteractionBlock"
    readout: str = "NonLinearReadoutBlock"
    elements: tuple[int, ...] = (1, 6, 7, 8)
    heads: tuple[str, ...] = ("Default",)
    agnostic: bool = False  # products with one weight for all elements
    apply_cutoff: bool = True
    reduced: bool = False  # cuEquivariance's couplings
    charged: bool = False  # takes total charge and spin
    dtype: torch.dtype = torch.float64
    seed: int = 0
    more: tuple[tuple[str, object], ...] = ()  # further arguments, (name, value)


BASE = Case("scaleshift_L1")
CASES = [
    BASE,
    replace(BASE, name="mace_L0", cls="MACE", max_l=0, correlation=3),
    replace(BASE, name="L2_correlation3", max_l=2, correlation=3),
    replace(BASE, name="agnostic_first", first="RealAgnosticInteractionBlock"),
    replace(BASE, name="forbidden_coupling", max_l=2, max_ell=1),  # of order 1 to 2e
    replace(
        BASE,
        name="density",
        first="RealAgnosticDensityInteractionBlock",
        interaction="RealAgnosticDensityResidualInteractionBlock",
    ),
    replace(
        BASE,
        name="nonlinear",
        first="RealAgnosticResidualNonLinearInteractionBlock",
        interaction="RealAgnosticResidualNonLinearInteractionBlock",
        readout="NonLinearBiasReadoutBlock",
        apply_cutoff=False,
        agnostic=True,
    ),
    replace(BASE, name="two_heads", heads=("pbe", "pbe0")),
    replace(BASE, name="reduced_couplings", correlation=3, reduced=True),
    replace(BASE, name="89_elements", elements=tuple(range(1, 90))),
    replace(BASE, name="float32", dtype=torch.float32),
]
IDS = [case.name for case in CASES]
ONE_HEAD = [case for case in CASES if len(case.heads) == 1]  # what `load_foundation` gives
ONE_HEAD_IDS = [case.name for case in ONE_HEAD]


def _categories(n: int, offset: int) -> dict[str, object]:
    """An embedding of a whole number of the structure, as in mace_omol."""
    numbers = {"in_dim": 1, "emb_dim": 4, "num_classes": n, "offset": offset}
    return {"type": "categorical", "per": "graph", **numbers}


CHARGE_AND_SPIN = {"total_spin": _categories(101, 0), "total_charge": _categories(201, 100)}


def make_model(case: Case = BASE) -> nn.Module:
    """A model of random weights, in eval mode, with E0s; a fresh copy."""
    return copy.deepcopy(_made(case))


@cache
def _made(case: Case) -> nn.Module:
    """Build a model, or read what another process of this test session has built."""
    name = hashlib.sha256(repr(case).encode()).hexdigest()
    file = Path(os.environ[forkserver.HOME], f"{name}.model")
    if not file.is_file():
        part = file.with_suffix(f".{os.getpid()}")
        part.write_bytes(_built(case))
        part.replace(file)
    return torch.load(file, weights_only=False)


def _built(case: Case) -> bytes:
    modules = upstream("mace.modules")
    torch.manual_seed(case.seed)
    irreps = o3.Irreps(f"{case.channels}x0e + {case.channels}x1o + {case.channels}x2e")
    n, n_heads = len(case.elements), len(case.heads)
    scale = {"atomic_inter_scale": 0.7, "atomic_inter_shift": 0.1}
    e0s = np.linspace(-3.0, -5.0, n)
    if n_heads > 1:
        scale = {k: [v + 0.2 * i for i in range(n_heads)] for k, v in scale.items()}
        e0s = np.array([e0s - i for i in range(n_heads)])
    with default_dtype(case.dtype):
        model = getattr(modules, case.cls)(
            r_max=4.0,
            num_bessel=4,
            num_polynomial_cutoff=5,
            max_ell=case.max_ell,
            interaction_cls=modules.interaction_classes[case.interaction],
            interaction_cls_first=modules.interaction_classes[case.first],
            num_interactions=case.layers,
            num_elements=n,
            hidden_irreps=irreps[: case.max_l + 1],
            MLP_irreps=o3.Irreps("6x0e"),
            atomic_energies=e0s,
            avg_num_neighbors=6.0,
            atomic_numbers=list(case.elements),
            correlation=case.correlation,
            gate=torch.nn.functional.silu,
            radial_MLP=[8, 8],
            heads=list(case.heads),
            readout_cls=getattr(modules.blocks, case.readout),
            use_agnostic_product=case.agnostic,
            apply_cutoff=case.apply_cutoff,
            use_reduced_cg=case.reduced,
            **(scale if case.cls == "ScaleShiftMACE" else {}),
            **({"embedding_specs": CHARGE_AND_SPIN} if case.charged else {}),
            **dict(case.more),
        )
    with torch.no_grad():  # e3nn starts biases at zero, where a lost one would not be seen
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
    file = io.BytesIO()  # as users have them: MACE's weights of forbidden couplings, fresh from
    torch.save(model.eval(), file)  # its classes, cannot even be copied
    return file.getvalue()


def structures(seed: int = 0, stress: bool = True) -> list[Atoms]:
    """Molecules, a periodic cell, a lone atom and a pair beyond the cutoff, with random labels."""
    rng = np.random.default_rng(seed)
    out = [molecule(name) for name in ("CH3CHO", "HCOOH", "CH3NO2")]
    diamond = bulk("C", "diamond", a=3.6) * (2, 1, 1)
    pair = Atoms("OH", positions=[[0, 0, 0], [0, 0, 9.0]])
    out += [diamond, Atoms("N"), pair]
    for atoms in out:
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        atoms.info = {ENERGY: -4.0 * len(atoms) + rng.normal()}
        atoms.arrays[FORCES] = rng.normal(size=(len(atoms), 3))
        if stress:
            atoms.info[STRESS] = rng.normal(scale=0.01, size=9)
        if not atoms.pbc.any():
            atoms.cell = np.eye(3) * 20.0  # stress of a molecule needs a volume
    return out


def perturb(model: nn.Module, size: float = 0.3, seed: int = 1) -> None:
    """Give every parameter of every adapter a value that is plainly not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, layer in lora_layers(model):
            for parameter in layer.values().values():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(size * noise)


OUTPUTS = ("energy", "forces", "stress")


def outputs(model: nn.Module, atoms: list[Atoms] | None = None) -> dict[str, np.ndarray]:
    """Energies, forces and stresses of a model on the structures above, or on others."""
    return predict(model, graphs(atoms or structures(), model), stress=True)


def difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """The largest of the differences of two outputs (eV, eV/Å, eV/Å^3)."""
    return max(float(np.abs(a[k] - b[k]).max()) for k in OUTPUTS)
