"""The documentation: every page is on the site, every link leads somewhere, every block works.

Of commands, those that only look are run; those that train, serve or need a cluster are read by the
parsers of the programs.  Blocks without a language are what a program prints, or are tested beside
what they are about: docs/cluster.md by tests/slurm, docs/deploy.md by tests/workflow.
"""

import importlib
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
import torch
import yaml
from ase.build import molecule
from snakemake.cli import get_argument_parser

import lora
from lora import inject_lora, save_adapter
from lora.cli.main import main
from lora.cli.options import read
from lora.data.structures import load_structures, read_structures, write_structures
from lora.errors import UserError
from lora.files.sealed import Receipt
from lora.mace.kernels import to_kernel
from lora.plan.config import Config
from lora.plan.sweep import Sweep as Plan
from lora.steps.choose import choose
from tests.support.docs import anchors, bash, fenced, links
from tests.support.models import make_model, perturb
from tests.support.results import make_sweep, write_results
from tests.support.sweep import Sweep
from tests.support.trainings import teacher_data

ROOT = Path(__file__).parents[1]
HOOKS = runpy.run_path(str(ROOT / "docs/hooks.py"))
SITE = {x.relative_to(ROOT / "docs").as_posix(): x for x in (ROOT / "docs").rglob("*.md")}
SITE |= {page: ROOT / source for source, page in HOOKS["PAGES"].items()}
# {page of the site: file of the repository}
PAGES = {page: path.relative_to(ROOT).as_posix() for page, path in SITE.items()}
WITH_PYTHON = {
    "docs/deploy.md": "tests/workflow/test_module.py",
    "docs/library.md": "below",
    "docs/loop.md": "below",
    "docs/results.md": "tests/tracking/test_model.py",
    "docs/simulation.md": "tests/export/test_export.py",
    "docs/tutorial.md": "below",
}
SMALL = 60_000  # bytes of a picture
each = pytest.mark.parametrize("page", PAGES)

# --- pages and links


def leaves(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [x for part in (nav.values() if isinstance(nav, dict) else nav) for x in leaves(part)]


def test_every_page_is_in_the_navigation() -> None:
    nav = leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(nav) == sorted(PAGES)


@each
def test_links_lead_somewhere_in_the_repository(page: str) -> None:
    text, here = SITE[page].read_text(), SITE[page].parent
    for file, heading in links(text):
        there = (here / file).resolve() if file else SITE[page]
        assert there.exists(), f"{PAGES[page]}: {file}"
        if heading:
            assert heading in anchors(there.read_text()), f"{PAGES[page]}: {file}#{heading}"


@each
def test_links_lead_somewhere_on_the_site(page: str) -> None:
    for file, _ in links(HOOKS["links_of_the_site"](SITE[page].read_text(), page)):
        path = os.path.normpath(os.path.join(os.path.dirname(page), file)) if file else page
        assert path in PAGES or (ROOT / "docs" / path).is_file(), f"{page}: {file}"


def test_pictures_are_small_and_shown() -> None:
    text = "".join(path.read_text() for path in SITE.values())
    for path in (ROOT / "docs/pictures").iterdir():
        if path.suffix in (".svg", ".png"):
            assert path.stat().st_size < SMALL and f"pictures/{path.name})" in text, path


def test_the_api_has_every_public_name() -> None:
    named = re.findall(r"^::: (lora[\w.]+)$", (ROOT / "docs/api.md").read_text(), re.M)
    for path in named:
        module, _, name = path.rpartition(".")
        assert getattr(importlib.import_module(module), name) is getattr(lora, name)
    assert {x.rpartition(".")[2] for x in named} == {*lora.__all__} - {"__version__"}


def test_the_site_is_built_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) == len(PAGES) + 1  # 404
    for path in pages:
        text = path.read_text()
        assert not re.search(r"<(script|img|iframe|link)\b[^>]*(src|href)=.?https?:", text), path
        assert "mermaid" not in text  # whose code would be fetched
    for path in tmp_path.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*.?https?:", path.read_text()), path


# --- commands


def command(line: str) -> None:
    """Check a command: its program takes it."""
    if inner := re.fullmatch(r'eval "\$\((mace-lora .*)\)"', line):
        line = inner[1]
    words = shlex.split(line, comments=True)
    if words[0] == "mace-lora":
        read(words[1:])
    elif words[0] == "snakemake":
        get_argument_parser().parse_args(words[1:])
    elif words[0] == "make":
        assert f"\n{words[1]}: .venv/ready" in (ROOT / "Makefile").read_text()
    elif words[0] in ("python", "cp"):
        assert (ROOT / words[1]).is_file()
        # imported, a script that has a main does nothing yet
        if words[0] == "python" and "__main__" in (ROOT / words[1]).read_text():
            runpy.run_path(str(ROOT / words[1]), run_name="imported")
    elif words[0] == "cat":
        assert all(x.endswith(".xyz") or x == ">" for x in words[1:])
    else:
        assert line in ("source .venv/bin/activate", "export TMPDIR=/scratch/$USER"), line


@each
def test_programs_take_the_commands(page: str, capsys: pytest.CaptureFixture) -> None:
    for line in (x for text in fenced(PAGES[page], "bash") for x in text.splitlines() if x):
        try:
            command(line)
        except (SystemExit, UserError) as error:
            pytest.fail(f"{PAGES[page]}: {line}: {error} {capsys.readouterr().err}")


def test_a_command_that_is_not_there_is_found() -> None:
    for line in ("mace-lora statsu", "snakemake --config-file a", "make dcos", "rm -r /"):
        with pytest.raises((SystemExit, AssertionError, UserError)):
            command(line)


@pytest.mark.slow
def test_the_tutorial_up_to_the_sweep(tmp_path: Path) -> None:
    """From the file to the dry run, of the proposed config and of the one on the page."""
    sweep, page = Sweep(tmp_path / "clone"), "docs/tutorial.md"
    quickstart = sweep.home / "workflow/resources/quickstart"
    quickstart.parent.mkdir(exist_ok=True)
    quickstart.symlink_to(ROOT / "workflow/resources/quickstart")
    of_files, of_init, of_looks, *_ = fenced(page, "bash")
    config, _, dry = (x for x in of_looks.splitlines() if x)  # the audit is tested in tests/data
    both, env = f"{config}\n{dry}", sweep.environment()
    printed = bash(f"{of_files}{of_init}{both}", sweep.home, env)
    assert "plan: 36 of 36 points to train" in printed
    text = (ROOT / page).read_text()
    assert "18 LoRA points" in text and "36 trainings" in text
    (written,) = fenced(page, "yaml")
    (sweep.home / "tutorial.yaml").write_text(written)
    printed = bash(both, sweep.home, env)
    assert "no mistakes found" in printed and "plan: 15 of 15 points to train" in printed


# --- blocks of Python and YAML


def test_every_page_with_python_is_tested() -> None:
    assert {x for x in PAGES.values() if fenced(x, "python")} == set(WITH_PYTHON)
    for page, place in WITH_PYTHON.items():
        assert place == "below" or page in (ROOT / place).read_text()


def run(page: str, *blocks: str) -> dict[str, object]:
    """Run blocks one after the other, as in one session; return its names."""
    names: dict[str, object] = {}
    for text in blocks:
        exec(compile(text, page, "exec"), names)
    return names


@pytest.mark.slow
def test_the_library_as_its_page_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuequivariance_torch")
    monkeypatch.chdir(tmp_path)
    write_structures(tmp_path / "start.xyz", [molecule("CH3OH")])
    write_structures(tmp_path / "results/data/train.xyz", teacher_data(4, seed=0))
    for place in ("base.model", "results/foundation/foundation.model"):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        torch.save(make_model(), place)
    places = {"a/": 4, "b/": 2} | {f"results/train/lora_r{r}_a8_s3/adapter": r for r in (2, 4, 8)}
    for seed, (place, rank) in enumerate(places.items()):
        model = make_model()
        inject_lora(model, rank=rank)
        perturb(model, seed=seed)
        save_adapter(model, Path(place))
    page = "docs/library.md"
    names = run(page, *fenced(page, "python"))
    assert names["atoms"].calc.results["forces_spread"].max() > 0
    assert type(names["model"]) is type(make_model())
    assert names["to_kernel"] is to_kernel


@pytest.mark.slow
def test_the_loop_as_its_page_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the MD to the training set that has grown; of the MD fewer steps, and any spread."""
    page = "docs/loop.md"
    monkeypatch.chdir(tmp_path)
    write_structures(tmp_path / "start.xyz", [molecule("CH3CHO")])
    write_structures(tmp_path / "results/data/train.xyz", teacher_data(4, seed=0))
    for place in ("foundation/foundation", "merge/lora_r8_a32_s1/lora_r8_a32_s1"):
        path = Path(f"results/{place}.model")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(make_model(), path)
    for seed in (1, 2, 3):
        model = make_model()
        inject_lora(model, rank=2)
        perturb(model, seed=seed)
        save_adapter(model, Path(f"results/train/lora_r8_a32_s{seed}/adapter"))
    (block,) = fenced(page, "python")
    assert "md.run(4000)" in block
    run(page, block.replace("interval=40", "interval=2").replace("md.run(4000)", "md.run(48)"))
    assert len(load_structures("pool.xyz")) == 25
    labels = "x.info['REF_energy'], x.arrays['REF_forces'] = -1.0, 0.1 * x.positions"
    code = f"import sys, ase.io\nall = ase.io.read(sys.argv[1], ':')\nfor x in all:\n    {labels}\n"
    Path("dft.py").write_text(code + "ase.io.write(sys.argv[2], all, format='extxyz')\n")
    select, label, by_hand, add, *_ = "".join(fenced(page, "bash")).splitlines()
    for line in (select, label, by_hand):
        assert main(shlex.split(line.replace("--above 0.2", "--above 0"))[1:]) == 0, line
    assert len(list(Path("work").glob("*/input.xyz"))) == 20
    bash(add, tmp_path, dict(os.environ))
    found = read_structures(add.split("> ")[1])
    assert [x.info["REF_energy"] for x in found][4:] == [-1.0] * 20


def test_the_figure_of_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = {"rank": [4, 8], "alpha": [8, 32], "seed": [1, 2, 3]}
    sweep = make_sweep(tmp_path, grid=grid)
    write_results(sweep, {name: 60.0 + i for i, name in enumerate(sweep.points)})
    choose(sweep, Receipt(sweep.layout.receipt("choose")))
    (tmp_path / "results_frames").symlink_to(sweep.layout.results)
    monkeypatch.chdir(tmp_path)
    with matplotlib.rc_context():
        ax = run("docs/tutorial.md", *fenced("docs/tutorial.md", "python"))["ax"]
    assert Path("ranks.pdf").read_bytes().startswith(b"%PDF")
    assert [x.get_text() for x in ax.get_legend().get_texts()] == ["alpha 8", "alpha 32"]
    assert [list(x.lines[0].get_xdata()) for x in ax.containers] == [[4, 8], [4, 8]]


@each
def test_configs_are_taken(page: str) -> None:
    for text in fenced(PAGES[page], "yaml"):
        raw = {"foundation": {"model": "base.model"}, "data": {"file": "dft.xyz"}}
        assert Plan.from_config(Config.model_validate(raw | yaml.safe_load(text))).points
