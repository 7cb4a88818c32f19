"""Files that were cut short or lost a bit: said by who reads them, never used in silence."""

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lora.errors import UserError
from lora.files.sealed import read_json
from lora.plan.layout import Layout
from lora.selection.results import intact
from lora.tracking.run import read_run
from tests.faults.child import Chain
from tests.faults.test_processes import equal, whole  # noqa: F401  (a fixture)

pytestmark = pytest.mark.slow

# the file, and a step that reads it
READ = [
    ("out/data/train.xyz", "e0s"),
    ("out/data/valid.xyz", "merge"),
    ("out/data/test.xyz", "evaluate"),
    ("out/data/split.json", "train"),
    ("out/e0s/e0s.json", "train"),
    ("out/train/a/adapter/adapter.json", "merge"),
    ("out/train/a/adapter/adapter.safetensors", "merge"),
    ("out/train/a/adapter/adapter.safetensors", "truncate"),
    ("out/merge/a/a.model", "evaluate"),
    ("out/merge/a/a.model", "check"),
    ("out/merge/a/merge.json", "export"),
]


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: 2 * len(content) // 3])


def flip(path: Path) -> None:
    """One bit, in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize(("file", "step"), READ)
def test_damaged_results(
    file: str,
    step: str,
    damage: Callable,
    whole: Chain,  # noqa: F811
    tmp_path: Path,
    told: Callable,
) -> None:
    chain = whole.before(step, tmp_path / "chain")
    damage(chain.home / file)
    broken = chain.start(step)
    assert broken.wait() == 2, broken.said()
    (line,) = [x for x in broken.said().splitlines() if x.startswith(f"mace-lora {step}: ")]
    assert re.search(f"{Path(file).name}: (is damaged|is not JSON|cannot be read)", line), line
    assert "and run snakemake again" in line
    if "/train/" in file or "/merge/" in file:  # what snakemake has of them is the pack's receipt
        assert "/packs/p.json, and run" in line
    shutil.copy(whole.home / file, chain.home / file)
    chain.run(step)
    assert equal(chain, whole, step)
    kind = {cut: "cut short", flip: "a bit flipped"}[damage]
    told(f"{Path(file).name} {kind}, read by {step}", 1, "one line with the file", "equal")


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize(
    ("file", "reader"),
    [
        ("out/train/packs/p.json", "report"),
        ("out/evaluate/packs/p.json", "report"),
        ("out/evaluate/a.parquet", "report"),
        ("out/train/a/metrics.jsonl", "report"),
        ("out/train/a/metrics.jsonl", "track"),
        ("out/train/a/train.json", "track"),
        ("out/evaluate/a.json", "track"),
    ],
)
def test_what_the_report_and_mlflow_show_is_what_was_found(
    file: str,
    reader: str,
    damage: Callable,
    whole: Chain,  # noqa: F811
    tmp_path: Path,
    told: Callable,
) -> None:
    chain = whole.before("check", tmp_path / "chain")
    path = chain.home / file
    read = {
        "report": lambda: read_json(path) if path.suffix == ".json" else intact(path),
        "track": lambda: read_run(Layout(chain.home / "out"), "a", chosen=False),
    }[reader]
    assert read()
    damage(path)
    with pytest.raises(UserError, match=f"{path.name}: is") as error:
        read()
    assert "and run snakemake again" in str(error.value) and "\n" not in str(error.value)
    if "packs" not in file:  # what snakemake has of them is the pack's receipt
        assert "/packs/p.json, and run" in str(error.value)
    path.unlink()
    step = file.split("/")[1]
    chain.run(step)
    assert read() and equal(chain, whole, step)
    kind = {cut: "cut short", flip: "a bit flipped"}[damage]
    name = f"{step}/{path.name}" if path.name == "p.json" else path.name
    told(f"{name} {kind}, read by {reader}", 1, "one line with the file", "equal")


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_checkpoint_is_not_taken(
    damage: Callable,
    whole: Chain,  # noqa: F811
    tmp_path: Path,
    told: Callable,
) -> None:
    """It cannot be made again, so the training begins again, and says so."""
    chain = whole.before("train", tmp_path / "chain")
    step = chain.start("train")
    checkpoint = chain.home / "out/train/packs/p/checkpoint.pt"
    while not checkpoint.is_file():
        assert step.process.is_alive(), step.said()
    step.send(signal.SIGKILL)
    step.wait()
    damage(checkpoint)
    again = chain.start("train")
    assert again.wait() == 0, again.said()
    assert "checkpoint.pt cannot be read (ValueError): starting again" in again.said()
    assert equal(chain, whole, "train")
    kind = {cut: "cut short", flip: "a bit flipped"}[damage]
    told(f"checkpoint {kind}", 1, "starting again", "equal")
