"""Names and words of strangers: none runs, none is lost, and no secret is written down."""

import html
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from lora.data.structures import load_structures, write_structures
from tests.support.models import make_model
from tests.support.sweep import ROOT, Sweep, dry_run
from tests.support.trainings import teacher_data

pytestmark = pytest.mark.slow
EVIL = "a b'c\"d $(touch pwned) `touch pwned` ;touch pwned; é☆ %s %20"
LINK = "`x`_ javascript:alert(1) *b*"  # of reStructuredText, as captions are written
WORDS = "$(touch pwned) <script>alert(1)</script> $x_{$ é _h & \\n"
SECRET = "correct-horse-battery"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep all of whose names want to run something."""
    made = Sweep(tmp_path_factory.mktemp("strangers"))
    home = made.home
    torch.save(make_model(), home / f"base {EVIL}.model")
    data = teacher_data(12, seed=0)
    for atoms in data:
        atoms.info["config_type"] = WORDS
    write_structures(home / f"data {EVIL} {LINK}.xyz", data)
    shutil.move(home / "hot.xyz", home / f"hot {EVIL}.xyz")
    made.config |= {
        "results": f"out {EVIL}",
        "foundation": {"model": f"base {EVIL}.model", "licence": WORDS},
        "grid": {"rank": [1], "alpha": [0.5]},
        "rank_curve": False,
        "baselines": ["foundation"],
        "checks": {"quick": ["gradients"], "standard": [], "thorough": [], "holdout_file": None},
        "select": {"limits": {}},
        "tracking": {"experiment": f"exp {EVIL}"},
        "export": {"engines": ["ase"], "data_licence": WORDS},
    }
    made.config["data"] = {
        "file": f"data {EVIL} {LINK}.xyz",
        "test_sets": [{"name": "hot", "file": f"hot {EVIL}.xyz"}],
    }
    os.environ |= {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": SECRET}
    try:
        made.printed = made.run() + made.run("--report", "report.html")
    finally:
        del os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]
    return made


def test_nothing_runs_and_nothing_is_lost(sweep: Sweep) -> None:
    assert not list(sweep.home.rglob("pwned"))
    out = sweep.home / f"out {EVIL}"
    assert set(json.loads((out / "track/runs.json").read_text())["runs"]) == {
        "lora_r1_a0.5_s3",
        "foundation",
    }
    found = load_structures(out / "data/train.xyz")
    assert {a.info["config_type"] for a in found} == {
        load_structures(out / "data/valid.xyz")[0].info["config_type"]
    }
    assert "<script>alert(1)" in found[0].info["config_type"]
    assert sweep.todo() == {}


def test_what_strangers_wrote_is_text_in_the_report(sweep: Sweep) -> None:
    out = sweep.home / f"out {EVIL}"
    pages = [*(out / "report").glob("*.html"), *(out / "report").rglob("*.svg")]
    assert len(pages) > 8
    for page in pages:
        assert "<script>alert" not in page.read_text(), page.name
    assert html.escape("<script>alert(1)") in (out / "report/card.html").read_text()
    report = (sweep.home / "report.html").read_text()
    assert "<script>alert(1)" not in report
    assert not re.search(r"href=.{0,3}javascript:", report)
    assert LINK in report  # as it is, without a link or a bold word


def test_secrets_are_nowhere(sweep: Sweep) -> None:
    assert SECRET not in sweep.printed
    searched = 0
    for path in sweep.home.rglob("*"):
        if path.is_file():
            searched += 1
            assert SECRET.encode() not in path.read_bytes(), path
    assert searched > 50


@pytest.mark.parametrize(
    ("overlay", "key"),
    [
        ({"results": "out{pack}"}, "results"),
        ({"results": "-rf"}, "results"),
        ({"results": "why?"}, "results"),
        ({"data": {"file": "`x <javascript:alert(1)>`_.xyz"}}, "data.file"),
        ({"results": "two\nlines"}, "results"),
        ({"foundation": {"model": "b{}.model"}}, "foundation.model"),
        ({"data": {"file": "--out"}}, "data.file"),
    ],
)
def test_names_that_snakemake_cannot_have(overlay: dict, key: str, tmp_path: Path) -> None:
    quickstart = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    sections = {k: quickstart[k] | v for k, v in overlay.items() if isinstance(v, dict)}
    done = dry_run(quickstart | overlay | sections, tmp_path)
    (line,) = [x for x in (done.stdout + done.stderr).splitlines() if x.startswith("config: ")]
    assert line.startswith(f"config: {key}: ") and re.search("rename|begin it with|remove it", line)
    assert yaml.safe_load((tmp_path / "overlay.yaml").read_text())
