"""A copy of the workflow with data of its own, and dry runs."""

import fcntl
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import torch
import yaml

from lora.catalogue.checks import NAMES
from lora.data.structures import write_structures
from tests.support import forkserver
from tests.support.models import make_model
from tests.support.trainings import teacher_data

ROOT = Path(__file__).parents[2]
CLONE = ("Snakefile", "rules", "workflow", "lora", "snakemake_logger_plugin_mace_lora")
CLONE += ("envs", "profiles", "config")
# two threads of one job wait for each other where other tests run: ten times slower
CORES = ["--cores", "2", "--set-threads"]
CORES += [f"{rule}=1" for rule in ("audit", "e0s", "keep", "replay", "thorough")]


def unwrapped(text: str) -> str:
    """Return a text whose lines are as long as they were before the terminal's width broke them."""
    return " ".join(text.split())


class Sweep:
    """A copy of the workflow with data of its own, as a user would have it."""

    printed: str
    first: str  # what the first start printed, which did all

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(exist_ok=True)
        for name in CLONE:
            source = ROOT / name
            ignore = shutil.ignore_patterns("quickstart")
            if source.is_dir():
                shutil.copytree(source, home / name, ignore=ignore)
            else:
                shutil.copy(source, home / name)
        torch.save(make_model(), home / "base.model")
        write_structures(home / "data.xyz", teacher_data(12, seed=0))
        write_structures(home / "hot.xyz", teacher_data(3, seed=5))
        self.config = {
            "results": "out",
            "foundation": {"model": "base.model"},
            "data": {"file": "data.xyz", "test_sets": [{"name": "hot", "file": "hot.xyz"}]},
            "split": {"valid_fraction": 0.25, "test_fraction": 0.25},
            "grid": {"rank": [1, 2], "alpha": [0.5]},
            "pack": {"size": 2},
            "rank_curve": True,
            "baselines": ["foundation", "full"],
            "checks": {
                "holdout_file": "hot.xyz",
                "settings": {
                    "nve": {"steps": 20},
                    "heating": {"steps": 20},
                    "holes": {"structures": 4, "steps": 5},
                },
            },
            "select": {"limits": dict.fromkeys(NAMES)},
            "trust": {"coverage": 0.75},  # of three structures
            "export": {"engines": ["ase", "lammps"], "data_licence": "none; it's made up"},
            "train": {"max_num_epochs": 2, "batch_size": 3, "lr": 0.01},
        }

    def environment(self, commands: tuple[str, ...] = forkserver.COMMANDS) -> dict[str, str]:
        """Return the environment of a snakemake whose library is the copy's.

        Args:
            commands: those that the fork server runs; the others are the real ones.
        """
        own = {"PYTHONPATH": str(self.home), "OMP_NUM_THREADS": "1"}
        return os.environ | own | forkserver.environment(commands)

    def run(self, *args: str, commands: tuple[str, ...] = forkserver.COMMANDS) -> str:
        """Run snakemake; return what it printed."""
        (self.home / "config/config.yaml").write_text(yaml.safe_dump(self.config))
        done = subprocess.run(
            ["snakemake", *args, *CORES],
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            env=self.environment(commands),
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
        return done.stdout + done.stderr

    def start(self) -> subprocess.Popen:
        """Run snakemake in the background, in a process group of its own."""
        (self.home / "config/config.yaml").write_text(yaml.safe_dump(self.config))
        log = (self.home / "snakemake.log").open("w")
        env = self.environment(("mace-lora",))  # a group of processes is killed: a real snakemake
        command = ["snakemake", *CORES]
        return subprocess.Popen(
            command, cwd=self.home, stdout=log, stderr=log, env=env, start_new_session=True
        )

    def wait_for(self, pattern: str) -> None:
        """Wait until there is a file below the folder."""
        for _ in range(1200):
            if list(self.home.glob(pattern)):
                return
            time.sleep(0.05)
        raise AssertionError(f"no {pattern}: {(self.home / 'snakemake.log').read_text()[-2000:]}")

    def todo(self) -> dict[str, int]:
        """What a dry run would do: {rule: number of jobs}."""
        printed = self.run("--dry-run")
        table = re.search(r"^job +count\n-+ +-+\n(.*?)\n\n", printed, re.M | re.S)
        lines = table.group(1).splitlines() if table else []
        counts = {name: int(n) for name, n in (line.split() for line in lines)}
        return {k: v for k, v in counts.items() if k not in ("all", "total")}


def kept_sweep(home: Path) -> Path:
    """Return the results of a sweep, which the first that asks in a test session runs.

    Args:
        home: The folder in which it runs, if it must.
    """
    kept = Path(os.environ[forkserver.HOME], "sweep")
    with kept.with_name("sweep.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.is_dir():
            sweep = Sweep(home / "first")
            kept.with_suffix(".txt").write_text(sweep.run())
            shutil.copytree(sweep.home / "out", kept)
    return kept


def ran(home: Path) -> Sweep:
    """Return a sweep that has run, with what it printed; its store of MLflow is its own.

    Args:
        home: Its folder.
    """
    sweep, kept = Sweep(home), kept_sweep(home.parent)
    shutil.copytree(kept, home / "out", ignore=shutil.ignore_patterns("track"))
    sweep.first = kept.with_suffix(".txt").read_text()
    sweep.printed = sweep.first + sweep.run()
    return sweep


def dry_run(overlay: dict, folder: Path) -> subprocess.CompletedProcess:
    """`snakemake -n` on the quickstart's config with an overlay over it."""
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump({"results": str(folder / "results"), **overlay}))
    command = ["snakemake", "--dry-run", "--quiet", "--configfile", str(path)]
    env = os.environ | forkserver.environment()
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
