"""Plans without trainings: a config on small files, and receipts as if all jobs had run."""

from pathlib import Path
from typing import Any

from lora.catalogue.methods import BY_NAME
from lora.files.sealed import Receipt
from lora.plan.freshness import Files, Verdict, stamp
from lora.plan.start import Start
from lora.plan.sweep import Sweep

FRAME = (
    "2\n"
    'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=-1.0\n'
    "O 0 0 0 0 0 0.1\nH 0 0 1 0 0 -0.1\n"
)

# the baselines without a sweep of their rates
ONE_RATE = {name: {"lr": row.lr} for name, row in BY_NAME.items() if row.rates}


def config(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return a config of four LoRA points and two baselines on files in a folder."""
    for name in ("data.xyz", "base.model"):
        if not (folder / name).is_file():
            (folder / name).write_text(FRAME)
    return {
        "results": str(folder / "results"),
        "foundation": {"model": str(folder / "base.model")},
        "data": {"file": str(folder / "data.xyz")},
        "grid": {"rank": [2, 4], "alpha": [1, 8]},
        "baselines": ["foundation", "full"],
        "pack": {"size": 2},
        **changes,
        "methods": ONE_RATE | changes.get("methods", {}),
    }


def begin(raw: dict[str, Any], **start: Any) -> Sweep:
    """Make a plan as snakemake's main process does."""
    return Sweep.begin(raw, Start(cores=2, **start))


def verdicts(sweep: Sweep) -> dict[str, Verdict]:
    """Return which jobs would run."""
    return sweep.judge(Files())


def running(sweep: Sweep) -> dict[str, str]:
    """Return the jobs that would run, with the reason."""
    return {key: str(verdict.why) for key, verdict in verdicts(sweep).items() if verdict.runs}


def pretend(sweep: Sweep, seconds: float = 90.0, model: bytes = b"") -> None:
    """Write the receipts of all jobs that would run, as if they had; `model` was fetched."""
    found = verdicts(sweep)
    for key, job in sweep.jobs.items():
        if not found[key].runs:
            continue
        content: dict[str, Any] = {"made": key}
        if job.step == "train":
            points = job.settings["points"]
            content = {x: {"point": x, "seconds": seconds, "ended_by": "patience"} for x in points}
        if job.step == "rung":
            content = {"heats": {}, "packs": {}}
        needed = {x: sweep.jobs[x] for x in job.needs}
        for path in job.copies:
            path.parent.mkdir(parents=True, exist_ok=True)
            source = job.copies[path]
            path.write_bytes(source.read_bytes() if source else model)
        Receipt(job.receipt, stamp(job, needed, Files())).write(content)
