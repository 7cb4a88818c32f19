"""A finished sweep: every flipped bit found or harmless, its folder moved, two snakemakes in it."""

import json
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow
import pytest

from lora.cli.main import main
from lora.cli.status import status
from lora.errors import UserError
from lora.files.lock import Lock
from lora.files.sealed import read_json
from lora.files.seals import PASSING
from lora.plan.identity import is_open
from lora.plan.layout import Layout
from lora.steps.verify import verify
from lora.tracking.content import content_of
from lora.tracking.store import store_uri
from tests.faults.test_damage import says_the_same
from tests.support import counts
from tests.support.sweep import Sweep, ran

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return ran(tmp_path_factory.mktemp("sealed"))


def files_of(results: Path) -> list[Path]:
    """The files that a person or a step reads."""
    inside = (x for x in sorted(results.rglob("*")) if x.is_file() and x.stat().st_size)
    return [x for x in inside if x.relative_to(results).parts[0] not in PASSING]


def is_harmless(path: Path, before: bytes, after: bytes) -> bool:
    """Whether a file says the same with a bit flipped: JSON, or the store."""
    if path.suffix == ".db":
        tracked = read_json(path.with_name("runs.json"))
        return content_of(path, tracked["runs"].values()) == tracked["logged"]
    return says_the_same(path.suffix, before, after) and read_json(path) == json.loads(before)


def test_a_finished_sweep_is_as_it_was_made(sweep: Sweep) -> None:
    (line,) = verify(sweep.home / "out")
    made = files_of(sweep.home / "out")
    open_ones = [x for x in made if x.name == "mlflow.db" or x.name.endswith("lock")]
    assert line.endswith(f"{len(made) - len(open_ones)} files are as they were made")


@pytest.mark.long
def test_no_flipped_bit_is_silent(sweep: Sweep, told: Callable) -> None:
    """Found by `mace-lora verify`, with a line that names the file, or it changes nothing."""
    results, rng, found = sweep.home / "out", random.Random(0), Counter[str]()
    paths = files_of(results)
    for _ in range(counts.of(100, 1000)):
        path = rng.choice(paths)
        before = path.read_bytes()
        flipped = bytearray(before)
        flipped[rng.randrange(len(before))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(flipped))
        try:
            verify(results)
        except UserError as error:
            assert str(path) in str(error)
            assert "snakemake" in str(error) or "this version" in str(error)
            found["found"] += 1
        else:
            assert path.name.endswith("lock") or is_harmless(path, before, bytes(flipped)), path
            found["harmless"] += 1
        finally:
            path.write_bytes(before)
    assert found["found"] > 5 * found["harmless"]
    told("a bit flipped in any file of a finished sweep", found["found"], "by verify", "equal")


def test_each_file_of_a_job_has_its_receipt(sweep: Sweep) -> None:
    """One without passes for the file of a job that was ended."""
    layout = Layout(sweep.home / "out")
    of_no_job = {layout.identity, layout.plan, layout.tries}
    made = [x for x in files_of(layout.results) if not is_open(layout, x)]
    assert {x for x in made if layout.receipt_of(x) is None} == of_no_job


def test_files_that_no_job_makes_are_checked_too(sweep: Sweep) -> None:
    """They have no receipt, as have files of jobs that were ended, which are passed over."""
    layout = Layout(sweep.home / "out")
    for path in (layout.identity, layout.plan, layout.tries):
        before = path.read_text()
        path.write_text(before[:-4] + chr(ord(before[-4]) ^ 1) + before[-3:])
        try:
            with pytest.raises(UserError, match=re.escape(str(path))):
                verify(layout.results)
        finally:
            path.write_text(before)


@pytest.mark.parametrize("name", ["seal", "digest", "files", "stamp", "stamp_digest", "format"])
def test_a_bit_in_a_word_of_a_seal(sweep: Sweep, name: str) -> None:
    """It once turned the check off."""
    path = Layout(sweep.home / "out").receipt("e0s")
    before = path.read_text()
    path.write_text(before.replace(f'"{name}":', f'"{name[:-1]}{chr(ord(name[-1]) ^ 1)}":', 1))
    try:
        with pytest.raises(UserError, match=r"e0s\.json.*seal|e0s\.json does not match"):
            verify(sweep.home / "out")
    finally:
        path.write_text(before)


def test_an_energy_shift_in_the_model_is_found_before_anyone_uses_it(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    """By snakemake, its report, export, track and ui, with what to do; and that mends it."""
    layout = Layout(sweep.home / "out")
    model = layout.model(read_json(layout.receipt("choose"))["point"])
    before = model.read_bytes()
    flipped = bytearray(before)
    flipped[len(before) // 2] ^= 0x40
    model.write_bytes(bytes(flipped))
    for step in ("verify", "export", "track", "ui"):
        assert main([step, str(layout.results)]) == 2
        assert f"{model} does not match" in capsys.readouterr().err
    for arguments in ([], ["--report", "page.html"], ["--dry-run"]):
        with pytest.raises(AssertionError, match=f"{model.name} does not match"):
            sweep.run(*arguments)
    model.unlink()
    layout.receipt("merge", Layout.receipt_of(layout, model).stem).unlink()
    sweep.run()
    assert verify(layout.results) and sweep.todo() == {}


def test_a_training_anew_that_was_ended_runs_again(sweep: Sweep) -> None:
    """Its epochs are not those that the old train.json seals: no damage, as its receipt is gone."""
    layout = Layout(sweep.home / "out")
    epochs = layout.training("full_s3") / "metrics.jsonl"
    epochs.write_text(epochs.read_text().splitlines(keepends=True)[0])
    with pytest.raises(UserError, match=r"metrics\.jsonl does not match"):
        verify(layout.results)
    layout.receipt_of(epochs).unlink()  # as snakemake does before a job begins
    assert "1 files are being made anew" in verify(layout.results)[1]
    assert status(layout.results)
    sweep.run()
    assert len(verify(layout.results)) == 1 and len(epochs.read_text().splitlines()) > 1


def test_what_people_write_in_mlflow_is_theirs(sweep: Sweep) -> None:
    """A note, a tag, a name: no damage; a number that is another is."""
    layout = Layout(sweep.home / "out")
    client = mlflow.MlflowClient(uri := store_uri(layout.results), uri)
    tracked = read_json(layout.receipt("track"))
    run = tracked["runs"]["full_s3"]
    client.set_tag(run, "mine", "look at this")
    client.update_run(run, name="the best of all")
    client.create_registered_model("another")
    assert len(verify(layout.results)) == 1
    with closing(sqlite3.connect(layout.database)) as store, store:
        store.execute("update latest_metrics set step = step + 1 where run_uuid = ?", [run])
    with pytest.raises(UserError, match="does not hold the runs that were tracked"):
        verify(layout.results)
    assert "does not hold" in verify(layout.results, store=False)[-1]
    with closing(sqlite3.connect(layout.database)) as store, store:
        store.execute("update latest_metrics set step = step - 1 where run_uuid = ?", [run])


@pytest.mark.parametrize("folder", ["artifacts", "track/artifacts"])
def test_a_folder_of_any_name_is_checked(sweep: Sweep, folder: str, tmp_path: Path) -> None:
    home = tmp_path / folder / "results"
    shutil.copytree(sweep.home / "out", home)
    path = home / "e0s/e0s.json"
    path.write_text(path.read_text().replace("e", "f", 1))
    with pytest.raises(UserError, match=r"e0s\.json"):
        verify(home)


def test_a_lost_page_is_said(sweep: Sweep) -> None:
    page = Layout(sweep.home / "out").report("choice.html")
    before = page.read_bytes()
    page.unlink()
    try:
        with pytest.raises(UserError, match=r"choice\.html is missing"):
            verify(sweep.home / "out")
    finally:
        page.write_bytes(before)


def test_a_file_of_ones_own_is_named(sweep: Sweep) -> None:
    own = sweep.home / "out/report/notes.txt"
    own.write_text("mine")
    try:
        assert verify(sweep.home / "out")[-1] == "1 files are not of the sweep: report/notes.txt"
    finally:
        own.unlink()


def track(sweep: Sweep, layout: Layout) -> None:
    """Fill the store in a process of its own: MLflow keeps a file open that was put aside."""
    command = [sys.executable, "-m", "lora.cli", "track", str(layout.results)]
    subprocess.run(command, check=True, capture_output=True, env=sweep.environment())


def test_a_moved_folder_is_the_same_sweep(sweep: Sweep) -> None:
    """One run a point, one registered model; the store's files are in the new place."""
    old, new = Layout(sweep.home / "out"), Layout(sweep.home / "elsewhere/out")
    ids = read_json(old.identity)["id"]
    runs = read_json(old.receipt("track"))["runs"]
    new.results.parent.mkdir()
    old.results.rename(new.results)
    sweep.config["results"] = "elsewhere/out"
    try:
        assert sweep.todo() == {}
        assert "was moved or copied here" in sweep.run() and not old.results.exists()
        assert "was moved" not in sweep.run()
        new.receipt("track").unlink()  # as snakemake does before it runs the job again
        track(sweep, new)
        client = mlflow.MlflowClient(uri := store_uri(new.results), uri)
        tracked = read_json(new.receipt("track"))
        made = client.search_runs([tracked["experiment_id"]])
        assert len(made) == len(runs) and tracked["runs"].keys() == runs.keys()
        assert all(str(new.results) in x.info.artifact_uri for x in made)
        assert len(client.search_registered_models()) == 1
        assert read_json(new.identity)["id"] == ids
        verify(new.results)
    finally:
        new.results.rename(old.results)
        sweep.config["results"] = "out"
        sweep.run()
        track(sweep, old)


def test_no_place_of_this_machine_is_written_down(sweep: Sweep) -> None:
    """So that a folder can be given away; only logs and MLflow's own store know where it lay."""
    results, home = sweep.home / "out", str(sweep.home).encode()
    store = results / "track/mlflow.db"
    assert not [x for x in files_of(results) if home in x.read_bytes() and store.name not in x.name]


def test_two_snakemakes_in_one_folder(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two clones, also on two machines: the second says who is there, and does nothing."""
    monkeypatch.setattr("lora.files.lock.BEAT", 0.2)
    other = sweep.home.parent / "clone"
    shutil.copytree(sweep.home, other, ignore=shutil.ignore_patterns("out", ".snakemake"))
    clone = Sweep.__new__(Sweep)
    clone.home, clone.config = other, sweep.config | {"results": str(sweep.home / "out")}
    with Lock(Layout(sweep.home / "out").lock):
        with pytest.raises(AssertionError, match="snakemake works there already, process"):
            clone.run()
        assert clone.todo() is not None  # a dry run only looks
    clone.run("--until", "split")
