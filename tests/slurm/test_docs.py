"""Every command of docs/cluster.md, as it stands there, in a clone on a real Slurm."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.slurm.cluster import Cluster, output, running, wait_for
from tests.slurm.test_slurm import SlurmSweep
from tests.support.docs import bash, blocks, commands
from tests.support.sweep import ROOT

pytestmark = pytest.mark.slow
PAGE = "docs/cluster.md"
GIT = ("git", "-c", "user.name=us", "-c", "user.email=us@here")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("slurm") / "cluster", accounting=True) as made:
        yield made


class Clone(SlurmSweep):
    """A clone of a repository with the profile filled in, and the user's home and disk beside."""

    def __init__(self, home: Path) -> None:
        super().__init__(home / "origin")
        self.origin, self.user, self.scratch = self.home, home / "user", home / "scratch"
        self.one_point(1)
        for name in ("Makefile", "pyproject.toml", ".gitignore"):
            shutil.copy(ROOT / name, self.home)
        (self.home / "my.yaml").write_text(yaml.safe_dump(self.config))
        for words in (["init", "--quiet"], ["add", "."], ["commit", "-qm", "a release"]):
            subprocess.run([*GIT, *words], cwd=self.home, check=True)
        self.user.mkdir()
        self.home = home / "mace-lora-sweep"

    def ready(self) -> None:
        """Let `make` find an environment that it has made: the one of the tests."""
        (self.home / ".venv/bin").mkdir(parents=True)
        (self.home / ".venv/bin/activate").touch()
        (self.home / ".venv/ready").touch()

    def bash(self, text: str, **words: str) -> str:
        """Run commands where the user would, with words of theirs in place of the page's."""
        for word, own in ({"/scratch": str(self.scratch)} | words).items():
            text = text.replace(word, own)
        environment = self.environment(self.commands) | {"HOME": str(self.user), "USER": "me"}
        folder = self.home if self.home.is_dir() else self.home.parent
        return bash(text, folder, environment | {"PYTHONPATH": str(self.home)})


@pytest.fixture(scope="module")
def clone(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """What the first block of the page makes."""
    made = Clone(tmp_path_factory.mktemp("docs"))
    first, *_ = blocks(PAGE, "The first run")
    made_by, *rest = first.splitlines()
    made.bash(made_by, **{"<this repository>": f"{made.origin} mace-lora-sweep"})
    made.ready()
    assert "up to date" in made.bash("\n".join(rest))
    return made


def test_python_path_quota(clone: Clone) -> None:
    of_make, of_path, of_caches = blocks(PAGE, "Before the first run: Python, one path, a quota")
    assert "up to date" in clone.bash(of_make)
    assert clone.bash(of_path).strip() == f"{clone.home}/.venv/ready"
    clone.bash(f"{of_caches}\nsrun env | grep CACHE_HOME=/scratch/me/cache")


def test_the_first_run_and_a_login_node_that_kills(clone: Clone) -> None:
    """The foundation model here, all else from a job that submits jobs."""
    _, of_snakemake = blocks(PAGE, "The first run")
    plan, _ = of_snakemake.splitlines()  # the second is what the job below runs
    assert "plan: 1 of 1 points" in clone.bash(plan)
    of_model, of_file = blocks(PAGE, "Nodes without a network")
    clone.bash(of_model)
    found = {x.relative_to(clone.home / "out").as_posix() for x in clone.home.glob("out/*/*.*")}
    assert found == {"foundation/foundation.json", "foundation/foundation.model"} | {
        x for x in found if x.startswith("logs/")
    }
    clone.bash(of_file, **{"medium_omat ": "base.model "})
    kept = (clone.home / "mace-omat-0-medium.model").read_bytes()
    assert kept == (clone.home / "base.model").read_bytes()
    (of_job,) = blocks(PAGE, "Login nodes that end what runs long")
    assert "sbatch" in of_job and "Submitted" in clone.bash(of_job)
    wait_for(lambda: not output("squeue", "-h", "-o", "%i"), "the sweep", seconds=400)
    printed = (clone.home / "sweep.log").read_text()
    assert (clone.home / "out/report/best.json").is_file(), printed[-4000:]
    assert len(list((clone.home / "slurm_logs/rule_train").rglob("*.log"))) == 1
    (unlock,) = [x for x in commands(PAGE, "snakemake --configfile") if "--unlock" in x]
    clone.bash(unlock)


def test_an_update_meets_no_profile(clone: Clone) -> None:
    """The profile's copy stays, the clone's moves on, and nothing is trained again."""
    of_copy, of_update, of_keep = blocks(PAGE, "A profile outside of git, and a new version")
    clone.bash(of_copy)
    own = clone.user / "mace-slurm/config.yaml"
    own.write_text(own.read_text() + "# mine\n")
    theirs = clone.origin / "slurm/config.yaml"
    theirs.write_text(theirs.read_text() + "# a new line\n")
    subprocess.run([*GIT, "commit", "-qam", "another"], cwd=clone.origin, check=True)
    os.utime(clone.home / ".venv/ready")
    printed = clone.bash(of_update)
    assert "< # a new line" in printed and "> # mine" in printed
    assert (clone.home / "slurm/config.yaml").read_text() == theirs.read_text()
    assert "mine" in own.read_text()
    for text in (printed, clone.bash(of_keep)):
        assert "Nothing to be done" in text or "plan: 0 of" in text, text


def test_a_touch_changes_nothing(clone: Clone) -> None:
    """Neither does it make what is fresh stale, nor what is stale fresh for longer."""
    command = "snakemake --configfile my.yaml"
    assert "Nothing to be done" in clone.bash(f"{command} --touch; {command} --dry-run")
    text = (clone.home / "my.yaml").read_text()
    changed = text.replace("max_num_epochs: 1", "max_num_epochs: 2")
    assert changed != text
    (clone.home / "my.yaml").write_text(changed)
    try:
        assert "rule train" in clone.bash(f"{command} --touch; {command} --dry-run")
    finally:
        (clone.home / "my.yaml").write_text(text)


def test_what_asks_slurm_in_a_sentence(clone: Clone) -> None:
    """Commands within the text."""
    found = commands(PAGE, "sinfo", "sacctmgr", "pwd", "du")
    assert len(found) >= 5
    for command in found:
        assert clone.bash(command, results="out").strip(), command
