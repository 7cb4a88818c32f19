"""How many jobs a large sweep submits: counted in a dry run, without Slurm and trainings."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.slurm.test_slurm import SlurmSweep
from tests.support.sweep import ROOT

pytestmark = pytest.mark.slow
TENS = list(range(1, 11))


def test_submissions_of_1010_points(tmp_path: Path) -> None:
    """What follows a training is one job, not three: 279 submissions where there were 544."""
    sweep = SlurmSweep(tmp_path / "clone")
    sweep.config["grid"] = {"rank": TENS, "alpha": TENS, "seed": TENS}
    sweep.config |= {"baselines": ["full"], "rank_curve": False, "pack": {"size": 8}}
    sweep.config["methods"] = {"full": {"lr": 0.001}}
    sweep.config["checks"] |= {"quick": ["gradients"], "thorough": ["heating"]}
    sweep.config["export"] = {"engines": ["ase"], "data_licence": "none"}
    printed = sweep.finish(sweep.start("--dry-run"))
    assert "plan: 1010 of 1010 points to train in 140 jobs" in printed
    text = "\n\n".join(x.read_text() for x in sorted((ROOT / "rules").glob("*.smk")))
    rules = re.findall(r"^rule (\w+):\n(.*?)(?=^rule |\Z)", text, re.MULTILINE | re.DOTALL)
    alone = Counter(re.findall(r"^rule (\w+):", printed, re.MULTILINE))  # those in groups: indented
    for rule in ("all", *(name for name, body in rules if "localrule: True" in body)):
        alone.pop(rule, None)
    once = dict.fromkeys(("split", "audit", "e0s", "thorough", "trust", "export"), 1)
    assert alone == {"train": 140} | once
    groups = re.findall(r"Group job judge .*?\n\n", printed, re.DOTALL)
    assert len(groups) == 133
    assert alone.total() + len(groups) == 279
