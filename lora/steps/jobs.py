"""Run one job of a plan: read what the plan says, call the step, seal its receipt.

`mace-lora STEP PLAN [NAME]` comes here; the functions of the steps know nothing of plans.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora.errors import UserError
from lora.files.sealed import Receipt
from lora.plan.freshness import Files, stamp
from lora.plan.jobs import KEYS, Job, key_of
from lora.plan.sweep import Sweep
from lora.steps.common import Limits


@dataclass(frozen=True)
class Call:
    """One job with all that its step needs."""

    sweep: Sweep
    job: Job
    limits: Limits
    receipt: Receipt

    @property
    def name(self) -> str:
        """Return the pack, cut point or page."""
        return self.job.name

    @property
    def points(self) -> list[str]:
        """Return the names of the points of the job's pack."""
        return [x.name for x in self.sweep.packs[self.name].points]

    @property
    def base(self) -> dict[str, Any]:
        """Return which foundation model is used."""
        foundation = self.sweep.config.foundation
        return {"foundation": foundation.model, "head": foundation.head}

    @property
    def keys(self) -> dict[str, str]:
        """Return what the user's files call their labels."""
        return {key: getattr(self.sweep.config.data, key) for key in KEYS}

    def file(self, role: str) -> Path | None:
        """Return a file of the user, None where the config names none."""
        return self.job.files.get(role)


def run(step: str, plan: str | Path, name: str, limits: Limits) -> None:
    """Run a job.

    Raises UserError: the plan has no such job, or what the step raises.
    """
    sweep = Sweep.load(plan)
    key = key_of(step, name)
    if key not in sweep.jobs:
        known = [x.name for x in sweep.jobs.values() if x.step == step]
        named = f"; it has {', '.join(known[:12])}" if any(known) else ""
        raise UserError(f"{plan} has no {step} of {name or 'that'}{named}")
    job = sweep.jobs[key]
    made_of = stamp(job, {x: sweep.jobs[x] for x in job.needs}, Files())
    STEPS[step](Call(sweep, job, limits, Receipt(job.receipt, made_of)))


def _split(call: Call) -> None:
    from lora.steps.split import SplitSettings, split

    config, layout = call.sweep.config, call.sweep.layout
    settings = SplitSettings(
        **config.split.values(),
        **call.keys,
        given={k: str(v) for k, v in config.split.given_files().items()},
        test_files={x.name: x.file for x in config.data.test_sets},
    )
    split(config.data.file, settings, layout.split("train").parent, call.receipt)


def _replay(call: Call) -> None:
    from lora.steps.replay import replay

    settings = {k: getattr(call.sweep.config.replay, k) for k in ("labels", "num_samples", "seed")}
    replay(
        str(call.file("replay")),
        out=call.sweep.layout.replayed,
        keys=call.keys,
        threads=call.limits.threads,
        receipt=call.receipt,
        **call.base,
        **settings,
    )


def _e0s(call: Call) -> None:
    from lora.steps.e0s import e0s

    e0s(
        call.sweep.layout.split("train"),
        dtype=call.sweep.config.dtype,
        threads=call.limits.threads,
        receipt=call.receipt,
        **call.base,
        **call.sweep.config.e0s.values(),
    )
