"""Results folders without trainings: what the steps write, with numbers that are given."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms

from lora.catalogue.checks import BY_NAME
from lora.catalogue.columns import ROWS
from lora.data.calibration import Trial
from lora.data.conformal import Bound, Covered, Share
from lora.data.origin import Origin, set_origin
from lora.data.structures import write_structures
from lora.files.sealed import Receipt, write_sealed, write_text
from lora.plan.bundles import bundles_of
from lora.plan.config import Config
from lora.plan.freshness import Files
from lora.plan.points import Point
from lora.plan.sweep import Sweep
from tests.support.plans import ONE_RATE

SETS = {"valid": 0.0, "test": 5.0}  # and how much larger the errors are there
EPOCHS = 3


def make_sweep(folder: Path, **config: Any) -> Sweep:
    """Return the sweep of a small config, its plan written."""
    raw = {
        "results": str(folder / "results"),
        "foundation": {"model": "base.model"},
        "data": {"file": "data.xyz"},
        "grid": {"rank": [2, 4], "alpha": [8]},
        "baselines": ["foundation", "full"],
        **config,
        "methods": ONE_RATE | config.get("methods", {}),
    }
    sweep = Sweep.from_config(Config.model_validate(raw))
    sweep.save(Files())
    return sweep


def write_results(
    sweep: Sweep,
    errors: Mapping[str, float],
    failed: Iterable[str] = (),
    checks: Mapping[str, Mapping[str, float]] | None = None,
    leftovers: bool = False,
    lacking: Mapping[str, str] | None = None,
) -> None:
    """Write what trainings, evaluations, checks, E0s and split leave.

    Args:
        sweep: The sweep.
        errors: {point: force RMSE on the validation set}.
        failed: The points whose training failed.
        checks: {point: {check: value}}.
        leftovers: Whether points that failed were evaluated all the same.
        lacking: {set: the label, energy or force, that none of its structures has}.
    """
    for pack in sweep.packs.values():
        if pack.trains:
            gone = (lacking or {}).get("valid", "")
            results = {x.name: train(sweep, x, x.name in failed, gone) for x in pack.points}
            _seal(sweep, "train", pack.name, results)
    for name, packs in bundles_of(sweep.packs).items():
        members = [point for pack in packs for point in pack.points]
        sound = [x.name for x in members if leftovers or not _failed(x, failed)]
        _seal(sweep, "evaluate", name, {x: evaluate(sweep, x, errors[x], lacking) for x in sound})
        found = {x: {"checks": findings((checks or {}).get(x, {}))} for x in sound}
        _seal(sweep, "check", name, found)
        for name in sound:
            write_sealed(sweep.layout.checks(name), {"point": name, **found[name]})
            write_sealed(sweep.layout.model(name).with_name("merge.json"), {"dtype": "float64"})
    for step, content in {"e0s": E0S, "split": SPLIT, "audit": AUDIT}.items():
        write_sealed(sweep.layout.receipt(step), content)
    Receipt(sweep.layout.receipt("thorough")).write({})
    write_sealed(sweep.layout.receipt("trust"), TRUST)
    for name in SETS:
        write_structures(sweep.layout.split(name), frames(name))


def _failed(point: Point, failed: Iterable[str]) -> bool:
    return (point.cut_from or point.name) in failed


def _seal(sweep: Sweep, step: str, name: str, content: dict[str, Any]) -> None:
    Receipt(sweep.layout.receipt(step, name)).write(content)


def train(sweep: Sweep, point: Point, failed: bool = False, gone: str = "") -> dict[str, Any]:
    """Write and return what the training of a point leaves."""
    assert point.settings is not None
    rank = point.settings.rank if point.is_lora else 100
    lines = [epoch(i, gone) for i in range(EPOCHS + 1)]
    result = {"point": point.name, "settings": point.values(), "key": f"key of {point.name}"}
    result |= {"trainable_parameters": 100 * rank, "total_parameters": 84208 + 100 * rank}
    result |= {"n_train": round(40 * point.settings.train_fraction), "seconds": 12.5 + rank}
    result |= {"epochs": EPOCHS, "best_epoch": EPOCHS, "ended_by": "patience"}
    result |= {"peak_memory_mb": 700, "base_fingerprint": "b" * 16, "data_digest": "d" * 16}
    result |= {"machine": {"host": "here", "commit": "c" * 40}}
    more = [x.source for x in ROWS if x.source and not x.source.startswith("settings.")]
    result = dict.fromkeys([x for x in more if x != "reason"], 1) | result
    if failed:
        result |= {"ended_by": "failed", "reason": "memory ran out in epoch 3"}
    if point.is_lora:
        result |= {"singular_values": {"layer": {"0e": [2.0, 1.0]}}}
        result |= {"effective_rank": {"layer": {"0e": 1.5}}}
    folder = sweep.layout.training(point.name)
    write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_sealed(folder / "train.json", result, [folder / "metrics.jsonl"])
    return result


def epoch(i: int, gone: str = "") -> dict[str, Any]:
    """Return an epoch, as in metrics.jsonl; `gone` is a label that the validation set lacks."""
    missing = {"force": "valid_rmse_f_mev_per_a", "energy": "valid_rmse_e_mev_per_atom"}
    return {
        "epoch": i,
        "train_loss": None if i == 0 else 1.0 / i,
        "valid_loss": 2.0 / (i + 1),
        "valid_rmse_e_mev_per_atom": 3.0,
        "valid_rmse_f_mev_per_a": 30.0 - i,
        "lr": 0.01,
        "timestamp": 1.7e9 + i,
        "system": {"process_cpu_percentage": 99.5, "process_memory_megabytes": 700},
    } | ({missing[gone]: None} if gone else {})


def evaluate(
    sweep: Sweep, point: str, error: float, lacking: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Write and return an evaluation; given is the force RMSE on the validation set."""
    path = sweep.layout.parity(point)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = parity(error)
    for name, label in (lacking or {}).items():
        gone = (table["test_set"] == name) & (table["quantity"] == label)
        table["reference"] = table["reference"].mask(gone)
    table.to_parquet(path)
    numbers = {
        name: {
            "rmse_f_mev_per_a": error + more,
            "mae_f_mev_per_a": 0.7 * (error + more),
            "rmse_e_mev_per_atom": (error + more) / 50,
            "mae_e_mev_per_atom": (error + more) / 70,
        }
        for name, more in SETS.items()
    }
    for name, label in (lacking or {}).items():
        numbers[name] = {k: v for k, v in numbers[name].items() if f"_{label[0]}_" not in k}
    sets = {name: {"n_structures": 6, **x, "config_types": {}} for name, x in numbers.items()}
    result = {"point": point, "sets": sets}
    write_sealed(sweep.layout.errors(point), result, [path])
    return result


def parity(error: float, n: int = 6) -> pd.DataFrame:
    """Return parity data of n structures of two atoms on each set, made from a seed."""
    rng = np.random.default_rng(round(100 * error))
    elements = [x for i in range(n) for x in ("H", "OH"[i % 2]) for _ in range(3)]
    parts = []
    for name in SETS:
        for quantity, times in (("energy", 1), ("force", 6)):
            reference = np.linspace(-1, 1, n * times)
            parts.append(
                pd.DataFrame(
                    {
                        "test_set": name,
                        "config_type": "Default",
                        "structure": np.repeat(range(n), times),
                        "composition": np.repeat([("HO", "H2")[i % 2] for i in range(n)], times),
                        "source_file": f"{name}_in.xyz",
                        "frame": np.repeat(range(20, 20 + n), times),
                        "atom": np.tile(np.repeat([0, 1], 3), n) if times > 1 else -1,
                        "element": elements if times > 1 else "",
                        "quantity": quantity,
                        "reference": reference,
                        "predicted": reference + 1e-3 * error * rng.normal(size=n * times),
                    }
                )
            )
    return pd.concat(parts)


def frames(name: str, n: int = 6) -> list[Atoms]:
    """Return the structures of a set whose parity data `parity` makes."""
    found = [Atoms("OH", [[0, 0, 0], [0, 0, 0.9 + i / 50]]) for i in range(n)]
    for i, atoms in enumerate(found):
        set_origin(atoms, Origin(f"{name}_in.xyz", i + 20))
    return found


def findings(values: Mapping[str, float]) -> dict[str, Any]:
    """Return findings of checks as the step check writes them, {check: finding}."""
    found = {}
    for name, value in values.items():
        row = BY_NAME[name]
        finding = {"value": value, "unit": row.unit, "limit": row.limit, "compare": row.compare}
        found[name] = finding | {"meaning": row.meaning, "source": row.source}
        found[name]["detail"] = DETAILS.get(name, {})
    return found


R = [1.0, 1.5, 2.0, 3.0]
DETAILS: dict[str, dict[str, Any]] = {  # the curves of the checks that have some
    "dimers": {
        "faults": ["O-H: jump"],
        "curves": {
            "O-O": {"r": R, "energy": [900.0, 1.0, -2.0, 0.0]},
            "O-H": {"r": R, "energy": [3.0, -4.0, -1.0, 0.0]},
        },
    },
    "eos": {"curves": {"OH": {"0.88": 0.2, "1.0": 0.0, "1.12": 0.1}}},
    "holes": {"fell": 0, "structures": 360, "below": 0.8287},
    "nve": {"slope": 0.1, "curve": {"ps": [0.0, 0.1, 0.2], "energy": [0.0, 0.2, -0.1]}},
}


def trial(**shares: float) -> dict[str, Any]:
    """Return bounds as the step trust writes them, and {set: the share that they hold for}."""
    found = {
        name: Covered(Share(x, x - 0.02, x + 0.02), Share(x, x - 0.06, x + 0.06), 0.05, 0.6, 20)
        for name, x in shares.items()
    }
    return Trial(Bound(0.9, 2.0, 4.0, 30), found).to_dict()


TRUST = {
    "point": "lora_r2_a8_s3",
    "coverage": 0.9,
    "why": "",
    "sources": {"features": trial(test=0.91, hot=0.7), "committee": trial(test=0.85, hot=0.5)},
}
OPEN = "The compositions of the training set determine 1 of 2 E0s"
E0S = {
    "method": "auto",
    "E0s": {"H": -13.6, "O": -2041.0},
    "sources": {"H": "free atom", "O": "tabulated atom"},
    "prior": {"H": -13.7, "O": -2028.0},
    "foundation_E0s": {"H": -10.7, "O": -102.5},
    "correction": {"H": -2.9, "O": -1938.5},
    "rank": 1,
    "n_elements": 2,
    "n_structures": 40,
    "sentences": [f"{OPEN}."],
    "warnings": [f"{OPEN}."],
    "rmse_before_mev_per_atom": 2900.0,
    "rmse_after_mev_per_atom": 20.0,
}
SPLIT = {
    "method": "random",
    "seed": 0,
    "counts": {"train": 40, "valid": 6, "test": 6, "isolated_atoms": 2},
    "test_sets": {"test": 6},
    "labels": {
        "train": {"structures": 8, "energy": 8, "forces": 7, "stress": 0},
        "valid": {"structures": 1, "energy": 1, "forces": 1, "stress": 0},
    },
    "warnings": ["dft.xyz: the key head of 2 structures is left out"],
    "leakage": {"tolerance_angstrom": 0.01, "duplicates": 0, "near_duplicates": 0},
}
FIT = {"slope": 1.04, "correlation": 0.96, "offset": -756.0, "n": 200}
AUDIT = {
    "files": {
        "data.xyz": {
            "structures": 52,
            "compared": 52,
            "fits": {"energy": FIT, "forces": FIT, "stress": FIT | {"n": 0}},
        }
    },
    "findings": [
        {"name": "far_outside", "label": "frames", "level": "warn", "text": "frame 7 is odd"},
        {"name": "forces_sign", "label": "forces", "level": "accepted", "text": "of other sign"},
        {"name": "missing_labels", "label": "labels", "level": "note", "text": "no stress of 3"},
    ],
}
