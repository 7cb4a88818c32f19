"""Files that were cut short or lost a bit: said by who reads them, never used in silence.

Each file is cut once and has one bit flipped; with full counts, many at random places.
"""

import json
import random
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lora.errors import UserError
from lora.files.sealed import read_json
from lora.plan.layout import Layout
from lora.selection.results import intact
from lora.tracking.run import read_run
from tests.faults.child import Chain
from tests.faults.test_processes import equal, whole  # noqa: F401  (a fixture)
from tests.support import counts

pytestmark = pytest.mark.slow
DAMAGED = ":? (is damaged|does not match|is not JSON|cannot be read|has format)"

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


def damaged(path: Path) -> Iterator[str]:
    """Damage a file in one way after the other; the name of each, the file whole at the end."""
    content = path.read_bytes()
    size, rng = len(content), random.Random(size_of_name(path))
    places = [size // 2, *(rng.randrange(size) for _ in range(counts.of(0, 20)))]
    lengths = [2 * size // 3, *(rng.randrange(1, size) for _ in range(counts.of(0, 5)))]
    for length in lengths:
        path.write_bytes(content[:length])
        yield "cut short"
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8) if place != places[0] else 1
        path.write_bytes(bytes(flipped))
        if not says_the_same(path.suffix, content, bytes(flipped)):
            yield "a bit flipped"
    path.write_bytes(content)


def says_the_same(suffix: str, content: bytes, flipped: bytes) -> bool:
    """Whether JSON has the same values: 1e-5 and 1E-5, or a bit of its seal was flipped."""
    try:
        a, b = (json.loads(x) for x in (content, flipped))
    except ValueError:
        return False
    return suffix == ".json" and all(a[key] == b.get(key) for key in a if key != "seal")


def size_of_name(path: Path) -> int:
    """A seed for each file."""
    return sum(path.name.encode())


def assert_remedy(line: str, receipt: bool) -> None:
    """A line says what to do; where snakemake has a file's receipt alone, it is to go, too."""
    if "has format" not in line:  # as if a newer version had written it
        assert "run snakemake again" in line
        assert "/packs/p.json, " in line or not receipt


def tell(told: Callable, found: Counter[str], file: str, reader: str) -> None:
    for kind, n in found.items():
        told(f"{file} {kind}, read by {reader}", n, "one line with the file", "equal")


@pytest.mark.long
@pytest.mark.parametrize(("file", "step"), READ)
def test_damaged_results(
    file: str,
    step: str,
    whole: Chain,  # noqa: F811
    tmp_path: Path,
    told: Callable,
) -> None:
    chain = whole.before(step, tmp_path / "chain")
    found: Counter[str] = Counter()
    for kind in damaged(chain.home / file):
        found[kind] += 1
        broken = chain.start(step)
        assert broken.wait() == 2, broken.said()
        (line,) = [x for x in broken.said().splitlines() if x.startswith(f"mace-lora {step}: ")]
        assert re.search(f"{Path(file).name}{DAMAGED}", line), line
        assert_remedy(line, receipt="/train/" in file or "/merge/" in file)
    chain.run(step)
    assert equal(chain, whole, step)
    tell(told, found, Path(file).name, step)


@pytest.mark.long
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
    found: Counter[str] = Counter()
    for kind in damaged(path):
        found[kind] += 1
        with pytest.raises(UserError, match=f"{path.name}{DAMAGED}") as error:
            read()
        assert "\n" not in str(error.value)
        assert_remedy(str(error.value), receipt="packs" not in file)
    path.unlink()
    step = file.split("/")[1]
    chain.run(step)
    assert read() and equal(chain, whole, step)
    tell(told, found, f"{step}/{path.name}" if path.name == "p.json" else path.name, reader)


@pytest.mark.parametrize("kind", ["cut short", "a bit flipped"])
def test_a_damaged_checkpoint_is_not_taken(
    kind: str,
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
    next(x for x in damaged(checkpoint) if x == kind)
    again = chain.start("train")
    assert again.wait() == 0, again.said()
    assert "checkpoint.pt cannot be read (ValueError): starting again" in again.said()
    assert equal(chain, whole, "train")
    told(f"checkpoint {kind}", 1, "starting again", "equal")
