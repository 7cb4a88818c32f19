"""Recipes that run elsewhere: images and CI name what is there."""

import re
from pathlib import Path

import yaml

from tests.support.sweep import ROOT
from tests.workflow.test_module import SOURCES

LOCKS = {x.name for x in ROOT.glob("requirements*.lock")}
CI = sorted((ROOT / ".github/workflows").glob("*.yml"))


def test_an_apptainer_image_gets_what_the_wheel_and_the_lock_are_made_of() -> None:
    files = (ROOT / "apptainer.def").read_text().partition("%files\n")[2].partition("\n%")[0]
    named = {line.split()[0] for line in files.splitlines() if line.strip()}
    assert named == {*SOURCES} | LOCKS


def test_a_container_gets_them_too() -> None:
    """COPY takes the folder but for what .dockerignore names."""
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    for name in {*SOURCES} | LOCKS:
        assert not any(x and Path(name).match(x) for x in ignored), name
    text = (ROOT / "Containerfile").read_text()
    assert len(re.findall(r"^(?:COPY|ADD|RUN) ", text, re.M)) == 2  # layers over the base


def test_ci_calls_what_is_there() -> None:
    targets = {*re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.M)}
    called = [x for path in CI for x in re.findall(r"\bmake ([\w./-]+)", path.read_text())]
    assert {"lint", "test"} <= {*called} <= targets
    for path in CI:
        jobs = yaml.safe_load(path.read_text())["jobs"]
        assert all(job["timeout-minutes"] <= 90 for job in jobs.values())
