"""Time single optimiser steps: full fine-tuning, upstream's LoRA, ours, and packs of ours.

    python benchmarks/step.py                        # the table below, on the CPU
    python benchmarks/step.py --device cuda --packs 1 8 32
    python benchmarks/step.py --channels 32 --max_L 1 --elements 4 --batch 5

Models have random weights in the shapes of MACE's foundation models, structures are ASE's ethanol
with noise.  The variants of a size run one after the other, again and again (A B C A B C), in one
process, so that a slow spell of the machine meets all of them; the numbers are medians.  One line
of JSON a size: seconds a step and point, and their ratios to upstream's LoRA.

Every variant trains as it would be used: upstream's on the model trimmed to the elements of the
data by MACE's own rule, with TorchScript as torch sets it up; ours as `mace-lora train` does.
"""

import argparse
import copy
import itertools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from torch import nn

from lora import inject_lora
from lora.adapters.inject import take_adapters
from lora.adapters.pack import Pack
from lora.data.structures import ENERGY, FORCES
from lora.mace.device import set_threads
from lora.mace.door import default_dtype, o3, upstream
from lora.mace.elements import elements, trim_elements
from lora.mace.fast.contraction import fold
from lora.mace.fast.convolution import fuse
from lora.mace.graphs import batches, graphs
from lora.mace.kernels import to_kernel
from lora.plan.settings import TrainSettings
from lora.training.loop import Fit
from lora.training.state import TrainingState

RANK, ALPHA = 8, 8.0


def make_model(channels: int, max_l: int, n_elements: int, dtype: torch.dtype) -> nn.Module:
    """MACE with random weights: two layers, l to 3, correlation 3, as the foundation models."""
    modules = upstream("mace.modules")
    torch.manual_seed(0)
    numbers = [1, 6, 7, 8] if n_elements == 4 else list(range(1, n_elements + 1))
    residual = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    hidden = [(channels, (degree, (-1) ** degree)) for degree in range(max_l + 1)]
    with default_dtype(dtype):
        return modules.ScaleShiftMACE(
            atomic_inter_scale=1.0,
            atomic_inter_shift=0.0,
            r_max=5.0,
            num_bessel=8,
            num_polynomial_cutoff=5,
            max_ell=3,
            interaction_cls=residual,
            interaction_cls_first=residual,
            num_interactions=2,
            num_elements=n_elements,
            hidden_irreps=o3.Irreps(hidden),
            MLP_irreps=o3.Irreps("16x0e"),
            atomic_energies=np.zeros(n_elements),
            avg_num_neighbors=8.0,
            atomic_numbers=numbers,
            correlation=3,
            gate=torch.nn.functional.silu,
            radial_MLP=[64, 64, 64],
            use_reduced_cg=False,
        )


def structures(n: int) -> list[Atoms]:
    rng, out = np.random.default_rng(0), []
    for _ in range(n):
        atoms = molecule("CH3CH2OH")
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        atoms.info[ENERGY], atoms.arrays[FORCES] = 0.0, np.zeros((len(atoms), 3))
        out.append(atoms)
    return out


Step = Callable[[Any], None]


def plain_step(model: nn.Module) -> Step:
    """A step as mace_run_train does it."""
    s = TrainSettings().resolved()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-4, amsgrad=True)
    loss = upstream("mace.modules").WeightedEnergyForcesLoss(1.0, 100.0)

    def step(batch: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        out = model(batch.to_dict(), training=True)
        loss(pred=out, ref=batch).backward()
        nn.utils.clip_grad_norm_(trained, s.clip_grad)
        optimizer.step()

    return step


def our_step(base: nn.Module, size: int, folded: bool) -> Step:
    """A step of a pack of ours."""
    model = copy.deepcopy(base)
    layers = []
    for _ in range(size):
        inject_lora(model, rank=RANK, alpha=ALPHA)
        layers.append(take_adapters(model))
    pack = Pack(model, layers).to(next(base.parameters()).device)
    if folded:
        fuse(pack.model)
        fold(pack.model)
    settings = TrainSettings(lr=1e-4, ema=False).resolved()
    fit = Fit(pack, [TrainingState({"factors": row}, settings) for row in pack.rows], [], [])
    group = list(range(size))

    def step(batch: Any) -> None:
        fit.train_step(batch, group)

    return step


def variants(full: nn.Module, packs: list[int], cueq: bool) -> dict[str, tuple[Step, int]]:
    """{name: (step, points it trains)} on a model trimmed to H, C, O.

    With cueq also our packs on cuEquivariance.
    """
    trimmed = trim_elements(full, [1, 6, 8]).to(next(full.parameters()).device)
    theirs = copy.deepcopy(trimmed)
    upstream("mace.modules.lora").inject_lora(theirs, rank=RANK, alpha=ALPHA)
    out = {
        "full": (plain_step(copy.deepcopy(trimmed)), 1),
        "upstream_lora": (plain_step(theirs), 1),
        "lora_unfolded": (our_step(trimmed, 1, folded=False), 1),
    }
    out |= {f"lora_pack{n}": (our_step(trimmed, n, folded=True), n) for n in packs}
    if cueq:
        device = str(next(full.parameters()).device)
        quick = to_kernel(trimmed, "cueq", device)
        out |= {f"lora_pack{n}_cueq": (our_step(quick, n, folded=True), n) for n in packs}
    return out


def measure(args: argparse.Namespace, channels: int, max_l: int, n_el: int, batch: int) -> dict:
    dtype = getattr(torch, args.dtype)
    full = make_model(channels, max_l, n_el, dtype).to(args.device)
    trimmed = trim_elements(full, [1, 6, 8])
    data = next(batches(graphs(structures(batch), trimmed), batch, args.device))
    assert elements(trimmed) == [1, 6, 8]
    found = variants(full, args.packs, args.cueq)
    times: dict[str, list[float]] = {name: [] for name in found}
    for repeat in range(args.repeats + 2):
        for name, (step, points) in found.items():
            started = time.perf_counter()
            step(data)
            if args.device.startswith("cuda"):
                torch.cuda.synchronize()
            if repeat >= 2:  # the first ones warm up
                times[name].append((time.perf_counter() - started) / points)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    reference = seconds["upstream_lora"]
    return {
        "device": torch.cuda.get_device_name() if args.device.startswith("cuda") else "cpu",
        "threads": torch.get_num_threads(),
        "dtype": args.dtype,
        "tf32": args.tf32,
        "channels": channels,
        "max_L": max_l,
        "elements": n_el,
        "batch": batch,
        "seconds": {name: round(value, 5) for name, value in seconds.items()},
        "ratio": {name: round(value / reference, 3) for name, value in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tf32", action="store_true", help="TF32 in float32 products of a GPU")
    parser.add_argument("--cueq", action="store_true", help="our packs on cuEquivariance, too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--max_L", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--elements", type=int, nargs="+", default=[4, 89])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 5, 32])
    parser.add_argument("--packs", type=int, nargs="+", default=[1, 4])
    args = parser.parse_args()
    set_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    for size in itertools.product(args.channels, args.max_L, args.elements, args.batch):
        print(json.dumps(measure(args, *size)), flush=True)


if __name__ == "__main__":
    main()
