"""In other hands: the workflow as a module from a forge or a folder, and as the wheel brings it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import lora
from tests.support import forkserver
from tests.support.sweep import CORES, ROOT, Sweep

pytestmark = pytest.mark.slow
PARTS = ["rules", "workflow", "envs", "profiles", "slurm", "config"]
SOURCES = [*PARTS, "lora", "snakemake_executor_plugin_mace_slurm"]
SOURCES += ["snakemake_logger_plugin_mace_lora"]
SOURCES += ["Snakefile", "pyproject.toml", "README.md", "LICENSE"]
# what `snakedeploy deploy-workflow` 0.17.1 writes, beside copies of config/ and profiles/
DEPLOYED = """
configfile: "config/config.yaml"


module mace_lora_sweep:
    snakefile:
        {snakefile}
    config:
        config


use rule * from mace_lora_sweep
"""
FORGE = 'github("them/mace-lora-sweep", path="workflow/Snakefile", tag="v1")'


def copied(names: list[str], home: Path) -> Path:
    """Copy parts of this clone."""
    ignored = shutil.ignore_patterns("__pycache__")
    home.mkdir()
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, home / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, home)
    return home


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed our wheel, and nothing else of this clone."""
    home = tmp_path_factory.mktemp("wheel")
    source = copied(SOURCES, home / "source")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(home), str(source)]
    subprocess.run([*pip, *build], check=True)
    shutil.rmtree(source)
    (built,) = home.glob("*.whl")
    install = ["--no-deps", "--no-index", "--ignore-installed", "--prefix", str(home / "prefix")]
    subprocess.run([*pip, "install", *install, str(built)], check=True)
    (packages,) = home.glob("prefix/lib/python*/site-packages")
    return packages


def forge(home: Path, version: str = lora.__version__) -> dict[str, str]:
    """Put the rules into a repository, in place of a forge's; return what tells git of it."""
    source = copied([*PARTS, "Snakefile", "pyproject.toml"], home / "rules")
    project = source / "pyproject.toml"
    project.write_text(project.read_text().replace(f'"{lora.__version__}"', f'"{version}"', 1))
    git = ["git", "-c", "user.name=them", "-c", "user.email=them@there"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "-qm", "rules"], ["tag", "v1"]):
        subprocess.run([*git, *words], cwd=source, check=True)
    (home / "forge/them").mkdir(parents=True)
    source.rename(home / "forge/them/mace-lora-sweep")
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{home}/forge/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
        "XDG_CACHE_HOME": str(home / "cache"),
    }


def snakemake(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    """Run snakemake in a folder."""
    env = os.environ | {"OMP_NUM_THREADS": "1"} | forkserver.environment() | environment
    command = ["snakemake", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def counts(done: subprocess.CompletedProcess) -> dict[str, int]:
    """The jobs of a dry run, by rule."""
    assert done.returncode == 0, done.stdout + done.stderr
    lines = re.findall(r"^(\w+) +(\d+)$", done.stdout, re.M)
    return {rule: int(n) for rule, n in lines if rule not in ("all", "sweep", "total")}


def deployed(home: Path, snakefile: str) -> Path:
    """Return a folder as snakedeploy makes it."""
    folder = copied(["config", "profiles"], home / "deployed")
    (folder / "workflow").mkdir()
    (folder / "workflow/Snakefile").write_text(DEPLOYED.format(snakefile=snakefile))
    return folder


def test_a_deployed_folder_plans_the_quickstart(wheel: Path, tmp_path: Path) -> None:
    """All its jobs, with the wheel's library, by default; its data come with the wheel."""
    own = {"PYTHONPATH": str(wheel)} | forge(tmp_path)
    folder = deployed(tmp_path, FORGE)
    found = snakemake(folder, "--dry-run", **own)
    clone = snakemake(ROOT, "--dry-run", "--config", f"results={tmp_path}/results")
    assert counts(found) == counts(clone) and counts(found)["train"] == 4
    assert "plan: 10 of 10 points" in found.stderr
    named = re.findall(r"input: (\S*malonaldehyde_300K\.xyz)", found.stdout)
    assert named and all(str(wheel.parents[2]) in x for x in named)
    assert "my.yaml" not in os.listdir(folder) and not (folder / "results").exists()


def test_a_workflow_of_the_users_own_runs_the_sweep(wheel: Path, tmp_path: Path) -> None:
    """As docs/deploy.md has it: from a forge, with rules that it renames, and the sweep of CI."""
    own = {"PYTHONPATH": str(wheel)} | forge(tmp_path)
    folder = copied(["profiles"], tmp_path / "mine")
    small = yaml.safe_load((ROOT / ".test/config/config.yaml").read_text())
    small |= {"results": "out", "baselines": ["foundation"], "export": {"engines": []}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"sweep": small}))
    (text,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/deploy.md").read_text(), re.S)
    forged = re.sub(r"github\(.*\)", FORGE, text)
    assert forged != text
    (folder / "Snakefile").write_text(forged)
    done = snakemake(folder, *CORES[:2], **own)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "lora_r2_a8_s3" in (folder / "phonons.txt").read_text()
    found = counts(snakemake(folder, "--dry-run", "-R", "sweep_merge", **own))
    following = ["merge", "evaluate", "check", "choose"]
    assert found.keys() == {*(f"sweep_{x}" for x in following), "phonons"}
    whole = snakemake(folder, *CORES[:2], "sweep_sweep", **own)
    assert whole.returncode == 0, whole.stderr[-5000:]
    report = snakemake(folder, "sweep_sweep", "--report", "report.html", **own)
    assert report.returncode == 0, report.stderr[-5000:]
    assert "A sweep of LoRA fine-tunings" in (folder / "report.html").read_text()


def test_the_wheel_needs_no_clone(wheel: Path, tmp_path: Path) -> None:
    """`mace-lora init` in an empty folder, and what it says comes next."""
    own = {"PYTHONPATH": str(wheel)}
    data = Sweep(tmp_path / "with_data").home
    folder = tmp_path / "empty"
    folder.mkdir()
    env = os.environ | forkserver.environment() | own
    command = ["mace-lora", "init", f"{data}/data.xyz", "--foundation", f"{data}/base.model"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)
    written, *_, following = done.stdout.splitlines()
    assert written.startswith("Snakefile, profiles/default/config.yaml, slurm/config.yaml: written")
    found = snakemake(folder, *following.partition("snakemake ")[2].split(), **own)
    assert {"split", "train", "merge", "choose", "track"} <= counts(found).keys()
    kept = (folder / "Snakefile").read_text()
    (folder / "Snakefile").write_text(f"{kept}\n# mine\n")
    again = subprocess.run(
        [*command, "--force"], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    assert "Snakefile" not in again.stdout
    assert (folder / "Snakefile").read_text().endswith("# mine\n")


def said(done: subprocess.CompletedProcess) -> str:
    """The one line that a snakemake which refused to run ends with."""
    assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()[-1]


def test_rules_of_another_version_are_refused(wheel: Path, tmp_path: Path) -> None:
    own = {"PYTHONPATH": str(wheel)} | forge(tmp_path, version="9.9")
    line = said(snakemake(deployed(tmp_path, FORGE), "--dry-run", **own))
    assert line.startswith(f"module: its rules are of mace-lora-sweep 9.9, and {lora.__version__}")


def test_rules_without_the_library_say_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "none/lora").mkdir(parents=True)
    (tmp_path / "none/lora/__init__.py").write_text("")
    own = {"PYTHONPATH": str(tmp_path / "none")} | forge(tmp_path)
    line = said(snakemake(deployed(tmp_path, FORGE), "--dry-run", **own))
    assert "No module named 'lora.plan'" in line and "pip install" in line


def test_a_prefix_is_refused(tmp_path: Path) -> None:
    """The plan would look elsewhere."""
    folder = deployed(tmp_path, f'"{ROOT}/workflow/Snakefile"')
    text = (folder / "workflow/Snakefile").read_text()
    moved = text.replace("    config:", '    prefix:\n        "mine"\n    config:')
    (folder / "workflow/Snakefile").write_text(moved)
    assert said(snakemake(folder, "--dry-run")).startswith("module: prefix and replace_prefix")
