"""What runs again: all that can change a result, and nothing else, wherever the results lie."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from lora.catalogue import checks
from lora.catalogue.atoms import EDITION
from lora.errors import UserError
from lora.files.sealed import Receipt, count_up, read_json, read_seal, write_sealed
from lora.plan import data_jobs, freshness
from lora.plan.layout import Layout
from lora.plan.start import in_use
from lora.plan.sweep import Sweep
from tests.support.plans import FRAME, begin, config, pretend, running

TRAIN = ("train/full_s3", "train/lora_s3_1", "train/lora_s3_2")


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """A folder with a sweep in which every job has run."""
    pretend(begin(config(tmp_path)))
    return tmp_path


def steps(found: dict[str, str]) -> set[str]:
    return {key.partition("/")[0] for key in found}


def test_at_first_everything_runs_and_then_nothing(tmp_path: Path) -> None:
    sweep = begin(config(tmp_path))
    assert set(running(sweep)) == set(sweep.jobs)
    assert set(running(sweep).values()) == {"new"}
    pretend(sweep)
    assert running(begin(config(tmp_path))) == {}


def test_a_moved_and_a_copied_folder_stay_fresh(done: Path) -> None:
    Layout(done / "results").lock.unlink()  # a snakemake that has ended leaves none
    shutil.copytree(done / "results", done / "copy")  # dates of now, in any order
    (done / "results").rename(done / "moved")
    for name in ("copy", "moved"):
        assert running(begin(config(done, results=str(done / name)))) == {}


def test_touched_files_stay_fresh_and_changed_ones_do_not(done: Path) -> None:
    os.utime(done / "data.xyz")
    assert running(begin(config(done))) == {}
    (done / "data.xyz").write_text(FRAME * 2)
    found = running(begin(config(done)))
    assert set(found.values()) == {"changed data"} and {"split", *TRAIN, "track"} <= set(found)
    (done / "data.xyz").write_text(FRAME)
    assert running(begin(config(done))) == {}


def test_free_atoms_in_a_file_count_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "atoms.xyz").write_text(FRAME)
    e0s = {"e0s": {"isolated_file": str(tmp_path / "atoms.xyz")}}
    pretend(begin(config(tmp_path, **e0s)))
    (tmp_path / "atoms.xyz").rename(tmp_path / "moved.xyz")
    e0s["e0s"]["isolated_file"] = str(tmp_path / "moved.xyz")
    assert running(begin(config(tmp_path, **e0s))) == {}
    (tmp_path / "moved.xyz").write_text(FRAME * 2)
    found = running(begin(config(tmp_path, **e0s)))
    assert set(found.values()) == {"changed data"} and {"e0s", *TRAIN} <= set(found)
    assert "split" not in found
    pretend(begin(config(tmp_path, **e0s)))
    assert begin(config(tmp_path, **e0s)).jobs["e0s"].settings["energy_key"] == "REF_energy"
    assert "energy_key" not in begin(config(tmp_path)).jobs["e0s"].settings


def test_estimated_e0s_depend_on_what_they_did(tmp_path: Path) -> None:
    """So that `on_upgrade: keep` keeps sweeps from before the default was auto."""
    job = begin(config(tmp_path, e0s={"method": "estimated"})).jobs["e0s"]
    before = {"method": "estimated", "max_error": 500, "stop": True, "head": None}
    assert job.settings == before | {"dtype": "float64"}
    assert begin(config(tmp_path)).jobs["e0s"].settings["free_atoms"] == EDITION


def test_names_of_labels_that_came_with_a_version_run_nothing(done: Path) -> None:
    receipt = begin(config(done)).jobs["split"].receipt
    stamp = read_seal(receipt)["stamp"]
    del stamp["settings"]["virials_key"], stamp["settings"]["total_spin_key"]
    Receipt(receipt, stamp).write(read_json(receipt))
    assert running(begin(config(done))) == {}
    stamp["settings"]["virials_key"] = "another"
    Receipt(receipt, stamp).write(read_json(receipt))
    assert "split" in running(begin(config(done)))


def test_data_of_the_same_size_and_date_are_read_again_by_their_time(done: Path) -> None:
    begin(config(done))  # the plan remembers digests by size and time of change
    state = (done / "data.xyz").stat()
    (done / "data.xyz").write_text(FRAME.replace("-1.0", "-2.0"))
    assert (done / "data.xyz").stat().st_mtime_ns != state.st_mtime_ns
    assert "split" in running(begin(config(done)))


CHANGED: dict[str, tuple[dict[str, Any], set[str]]] = {
    # what changes, and the steps that run first; all that need them follow
    "lr": ({"train": {"lr": 0.02}}, {"train"}),
    "lr of one method": ({"methods": {"lora": {"lr": 0.02}}}, {"train"}),
    "metric": ({"select": {"metric": "rmse_e_mev_per_atom"}}, {"shortlist"}),
    "limit": ({"select": {"limits": {"forgetting": 1}}}, {"shortlist"}),
    "a check's setting": ({"checks": {"settings": {"nve": {"steps": 100}}}}, {"check"}),
    "a long check's setting": ({"checks": {"settings": {"holes": {"steps": 9}}}}, {"thorough"}),
    "batches of evaluation": ({"train": {"valid_batch_size": 5}}, {"train", "evaluate"}),
    "precision": ({"train": {"default_dtype": "float32"}}, {"train", "merge"}),
    "origin of E0s": ({"e0s": {"method": "estimated"}}, {"e0s"}),
    "a threshold of the audit": ({"audit": {"outlier": 5}}, {"audit"}),
    "an accepted finding": ({"audit": {"accept": ["forces_sign"]}}, {"audit"}),
    "gate": ({"e0s": {"max_error": 100}}, {"e0s"}),
    "near duplicates": ({"split": {"near_duplicate": 0.1}}, {"split"}),
    "engines": ({"export": {"engines": ["ase"]}}, {"audit"}),  # and so the export
    "coverage": ({"trust": {"coverage": 0.8}}, {"trust"}),
    "experiment": ({"tracking": {"experiment": "other"}}, {"track"}),
}


@pytest.mark.parametrize(("change", "first"), CHANGED.values(), ids=CHANGED)
def test_changed_settings_run_what_reads_them(
    done: Path, change: dict[str, Any], first: set[str]
) -> None:
    sweep = begin(config(done, **change))
    found = freshness.judge(sweep.jobs, freshness.Files())
    own = {key for key, verdict in found.items() if verdict.runs and not verdict.after}
    assert steps(dict.fromkeys(own, "")) == first
    for key, verdict in found.items():  # and what follows, and nothing else
        needs = any(found[x].runs for x in sweep.jobs[key].needs)
        assert verdict.runs == (key in own or needs), key
        assert not verdict.runs or verdict.why == "changed settings"
    assert running(begin(config(done))) == {}


def test_what_says_nothing_of_results_runs_nothing(done: Path) -> None:
    same = {
        "the default written out": {"train": {"batch_size": 10}},
        "8.0 for 8": {"grid": {"rank": [2, 4], "alpha": [1.0, 8.0]}},
        "live": {"tracking": {"uri": None, "live": False}},
        "what to do on upgrades": {"on_upgrade": "retrain"},
        "other order": {"baselines": ["full", "foundation"]},
    }
    for name, change in same.items():
        found = running(begin(config(done, **change)))
        assert not set(found) & {"split", "e0s", *TRAIN}, name


def test_a_grid_that_grows_trains_what_is_new(done: Path) -> None:
    grown = {"rank": [2, 4, 8], "alpha": [1, 8]}
    found = running(begin(config(done, grid=grown)))
    assert {x for x in found if x.startswith("train/")} == {"train/lora_s3_3"}
    assert "merge/lora_s3_1" not in found and "choose" in found


def test_a_grid_that_shrinks_trains_nothing(done: Path) -> None:
    sweep = begin(config(done, grid={"rank": [2], "alpha": [1]}))
    assert [x.name for x in sweep.packs["lora_s3_1"].points] == ["lora_r2_a1_s3", "lora_r2_a8_s3"]
    found = running(sweep)
    assert not steps(found) & {"train", "merge", "evaluate"} and "choose" in found
    assert Sweep.load(sweep.layout.plan).jobs == sweep.jobs  # what jobs read


def test_a_setting_that_came_with_a_version_trains_nothing(done: Path) -> None:
    receipt = begin(config(done)).layout.receipt("train", "full_s3")
    seal = read_seal(receipt)
    del seal["stamp"]["settings"]["points"]["full_s3"]["amsgrad"]
    Receipt(receipt, seal["stamp"]).write(
        {"full_s3": {"point": "full_s3", "seconds": 90.0, "ended_by": "patience"}}
    )
    assert running(begin(config(done))) == {}
    assert "train/full_s3" in running(begin(config(done, train={"amsgrad": False})))


# --- the foundation model: its content counts


def test_a_changed_foundation_model_trains_again(done: Path) -> None:
    (done / "base.model").write_text("another")
    found = running(begin(config(done)))
    assert {"foundation", "e0s", *TRAIN} <= set(found) and "split" not in found
    assert set(found.values()) == {"changed data"}


def test_a_moved_foundation_model_runs_nothing(done: Path) -> None:
    (done / "base.model").rename(done / "renamed.model")
    moved = {"model": str(done / "renamed.model")}
    assert running(begin(config(done, foundation=moved))) == {}


@pytest.mark.parametrize("what", ["folder", "model"])
def test_a_deleted_foundation_model_runs_its_step_alone(done: Path, what: str) -> None:
    kept = begin(config(done)).layout.foundation_model
    if what == "folder":
        shutil.rmtree(kept.parent)
    else:
        kept.unlink()
    assert running(begin(config(done))) == {"foundation": "new"}


def test_a_licence_runs_no_training(done: Path) -> None:
    given = {"model": str(done / "base.model"), "licence": "CC0"}
    found = steps(running(begin(config(done, foundation=given))))
    assert {"foundation", "export"} <= found and not found & {"e0s", "train", "merge"}


NAMED = {"foundation": {"model": "small"}}


def named(folder: Path, content: str = "of small") -> Sweep:
    """Return a sweep on a published model in which every job has run."""
    sweep = begin(config(folder, **NAMED))
    pretend(sweep, model=content.encode())
    return sweep


def test_a_published_model_counts_by_its_content(tmp_path: Path) -> None:
    kept = named(tmp_path).layout.foundation_model
    assert running(begin(config(tmp_path, **NAMED))) == {}
    (tmp_path / "base.model").write_text("of small")  # the same, as a file
    found = steps(running(begin(config(tmp_path))))  # report and card show the licence
    assert {"foundation", "export"} <= found and not found & {"e0s", "train", "merge", "choose"}
    (tmp_path / "base.model").write_text("another")
    assert set(TRAIN) <= set(running(begin(config(tmp_path))))
    kept.write_text("changed since")
    assert set(TRAIN) <= set(running(begin(config(tmp_path, **NAMED))))


def test_another_name_trains_again(tmp_path: Path) -> None:
    named(tmp_path)
    found = running(begin(config(tmp_path, foundation={"model": "medium"})))
    assert set(TRAIN) <= set(found) and found["foundation"] == "changed settings"


def test_a_deleted_published_model_is_fetched_and_trains_nothing(tmp_path: Path) -> None:
    shutil.rmtree(named(tmp_path).layout.foundation_model.parent)
    assert running(begin(config(tmp_path, **NAMED))) == {"foundation": "new"}
    other = {"model": "medium"}  # not what was trained on
    assert set(TRAIN) <= set(running(begin(config(tmp_path, foundation=other))))


@pytest.mark.parametrize("raw", [{}, NAMED], ids=["file", "name"])
def test_results_from_before_the_step_are_used(tmp_path: Path, raw: dict[str, Any]) -> None:
    """Stamps had the digest of the user's file, or the name of a published model."""
    sweep = begin(config(tmp_path, **raw))
    pretend(sweep, model=b"of small")
    shutil.rmtree(sweep.layout.foundation_model.parent)
    for job in sweep.jobs.values():
        if job.receipt.is_file():
            stamp = read_seal(job.receipt)["stamp"]
            if raw:
                stamp["inputs"].pop("foundation", None)
            Receipt(job.receipt, stamp).write(read_json(job.receipt))
    assert running(begin(config(tmp_path, **raw))) == {"foundation": "new"}


# --- code


def change_code(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Let the digests of some modules be others."""
    found = freshness.code_of

    def changed(*entries: str) -> str:
        touched = any(x.startswith(modules) for x in entries)
        return found(*entries) + ("!" if touched else "")

    monkeypatch.setattr(freshness, "code_of", changed)


def test_changed_code_of_the_report_trains_nothing(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_code(monkeypatch, "lora.report.summary")
    assert set(running(begin(config(done)))) == {"report/summary", "track"}


def test_changed_code_of_the_choice_runs_choice_and_what_shows_it(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_code(monkeypatch, "lora.steps.choose")
    found = running(begin(config(done)))
    assert {"choose", "report/summary", "report/figures", "export", "track"} <= set(found)
    assert not steps(found) & {"train", "merge", "evaluate", "check", "thorough"}


def test_changed_code_of_a_check_runs_that_tier(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_code(monkeypatch, "lora.checks.holes")
    assert "check" not in steps(running(begin(config(done))))
    assert "thorough" in running(begin(config(done)))


def test_a_changed_row_of_a_check_runs_it_and_another_row_does_not(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = checks.BY_NAME["holes"]
    monkeypatch.setitem(checks.BY_NAME, "holes", replace(row, limit=3.0))
    found = running(begin(config(done)))
    assert "thorough" in found and "check" not in steps(found)


def test_an_upgrade_that_trains_again_asks(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_code(monkeypatch, "lora.steps.train")
    before = sorted(path for path in (done / "results").rglob("*"))
    with pytest.raises(UserError) as error:
        begin(config(done))
    said = str(error.value)
    assert "5 trained points would be trained again, about 0.12 CPU hours" in said
    assert "lora_r2_a1_s3" in said and "on_upgrade: retrain" in said and "on_upgrade: keep" in said
    assert sorted(path for path in (done / "results").rglob("*")) == before
    found = running(begin(config(done, on_upgrade="retrain")))
    assert set(TRAIN) <= set(found) and set(found.values()) == {"changed code"}
    assert running(begin(config(done, on_upgrade="keep"))) == {}


def test_an_upgrade_of_the_split_asks_too(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_code(monkeypatch, "lora.steps.split")
    with pytest.raises(UserError, match="5 trained points would be trained again"):
        begin(config(done))
    assert running(begin(config(done, on_upgrade="keep"))) == {}


def test_another_torch_is_an_upgrade(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = freshness._version
    other = lambda name: "3.0" if name == "torch" else real(name)  # noqa: E731
    monkeypatch.setattr(freshness, "_version", other)
    with pytest.raises(UserError, match=r"upgrade: torch .* -> 3\.0; 5 trained points"):
        begin(config(done))


def test_new_points_are_no_upgrade(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_code(monkeypatch, "lora.steps.train")
    fresh = config(done, results=str(done / "other"))
    assert set(TRAIN) <= set(running(begin(fresh)))


# --- what went wrong before


def test_what_failed_runs_again(done: Path) -> None:
    layout = begin(config(done)).layout
    count_up(layout.failed("lora_s3_1"), points={"lora_r2_a1_s3": "no memory"})
    found = running(begin(config(done)))
    assert found["train/lora_s3_1"] == "failed before" and "train/lora_s3_2" not in found
    count_up(layout.missed, why="down")
    assert running(begin(config(done)))["track"] == "failed before"


def test_a_missing_receipt_runs_again_with_what_follows(done: Path) -> None:
    begin(config(done)).layout.receipt("train", "full_s3").unlink()
    found = running(begin(config(done)))
    assert {"train/full_s3", "merge/full_s3", "choose", "track"} <= set(found)
    assert not {"train/lora_s3_1", "merge/lora_s3_1"} & set(found)


def test_a_receipt_of_another_hand_runs_again(done: Path) -> None:
    layout = begin(config(done)).layout
    write_sealed(layout.receipt("train", "full_s3"), {"full_s3": {"seconds": 1.0}})
    assert running(begin(config(done)))["train/full_s3"] == "new"


@pytest.mark.parametrize("what", ['"settings"', '"made"', '"code"', '"digest"'])
def test_a_damaged_receipt_is_said(done: Path, what: str) -> None:
    receipt = begin(config(done)).layout.receipt("split")
    receipt.write_text(receipt.read_text().replace(what, what.upper(), 1))
    with pytest.raises(UserError, match=r"split\.json.*damaged"):
        begin(config(done))


# --- the audit: ahead of E0s and trainings, and no part of what they are made from

SHOWN = {"audit", "report/audit_page", "report/summary", "export", "report/card_page", "track"}


def test_results_without_an_audit_get_it_and_what_shows_it(done: Path) -> None:
    begin(config(done)).layout.receipt("audit").unlink()
    assert set(running(begin(config(done)))) == SHOWN


def test_code_of_the_audit_trains_nothing(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_code(monkeypatch, "lora.steps.audit")
    assert set(running(begin(config(done)))) == SHOWN


def test_a_changed_row_of_a_finding_runs_the_audit(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tuple(replace(row, remedy="look") for row in data_jobs.FINDINGS)
    monkeypatch.setattr(data_jobs, "FINDINGS", rows)
    assert set(running(begin(config(done)))) == SHOWN


def test_what_the_audit_found_counts_for_nothing_but_what_shows_it(done: Path) -> None:
    receipt = begin(config(done)).layout.receipt("audit")
    Receipt(receipt, read_seal(receipt)["stamp"]).write({"findings": ["another"]})
    assert set(running(begin(config(done)))) == SHOWN - {"audit"}


def test_jobs_that_run_wait_for_the_audit_and_others_do_not_follow_it(done: Path) -> None:
    """Snakemake runs again what follows a file that is made anew, if it is among its inputs."""
    receipt = str(begin(config(done)).layout.receipt("audit"))
    Path(receipt).unlink()
    sweep = begin(config(done))
    assert receipt not in sweep.needs("e0s") + sweep.needs("train", "full_s3")
    assert receipt in sweep.needs("export") and str(done / "data.xyz") in sweep.needs("audit")
    sweep = begin(config(done, methods={"full": {"lr": 0.02}}))
    assert receipt in sweep.needs("train", "full_s3")
    assert receipt not in sweep.needs("train", "lora_s3_1") + sweep.needs("e0s")


# --- marks: what snakemake sees


def newer(sweep: Sweep, key: str) -> bool:
    job = sweep.jobs[key]
    mark = sweep.layout.mark(job.step, job.name)
    return mark.stat().st_mtime > job.receipt.stat().st_mtime


def test_marks_are_newer_than_receipts_where_jobs_run_again(done: Path) -> None:
    sweep = begin(config(done))
    assert not any(newer(sweep, key) for key in sweep.jobs)
    ahead = time.time() + 10_000
    os.utime(sweep.layout.receipt("train", "lora_s3_1"), (ahead, ahead))  # another clock
    changed = begin(config(done, train={"lr": 0.02}))
    found = running(changed)
    assert {key for key in changed.jobs if newer(changed, key)} == set(found)
    content = changed.layout.mark("train", "lora_s3_1").read_text()
    begin(config(done, train={"lr": 0.02}))
    assert changed.layout.mark("train", "lora_s3_1").read_text() != content  # never seen before
    back = begin(config(done))
    assert not any(newer(back, key) for key in back.jobs)


def test_a_dry_run_of_a_new_sweep_writes_nothing(tmp_path: Path) -> None:
    begin(config(tmp_path), dry=True)
    assert not (tmp_path / "results").exists()


def test_a_dry_run_leaves_the_plan_and_marks_what_would_run(done: Path) -> None:
    plan = begin(config(done)).layout.plan.read_text()
    sweep = begin(config(done, train={"batch_size": 3}), dry=True)
    assert sweep.layout.plan.read_text() == plan
    assert newer(sweep, "train/full_s3") and sweep.mark("train", "full_s3")


def test_a_sweep_that_runs_is_not_disturbed(done: Path) -> None:
    sweep = begin(config(done))
    before = {x: x.stat().st_mtime_ns for x in (done / "results").rglob("*")}
    begin(config(done, train={"lr": 0.02}), locked=True)
    assert {x: x.stat().st_mtime_ns for x in (done / "results").rglob("*")} == before
    assert not newer(sweep, "train/full_s3")


def test_locks_of_another_sweep_in_the_same_folder_are_none_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake lets both run; a lock is a file with the paths that it locks."""
    monkeypatch.chdir(tmp_path)
    locks = tmp_path / ".snakemake/locks"
    locks.mkdir(parents=True)
    assert not in_use({"results": "out"})
    (locks / "0.input.lock").write_text("data.xyz\nout_2/e0s/e0s.json\n")
    (locks / "0.output.lock").write_text("out_2/report/summary.txt\n")
    assert not in_use({"results": "out"}) and not in_use({})
    assert in_use({"results": "out_2"}) and in_use({"results": str(tmp_path / "out_2")})
    (locks / "1.output.lock").write_text("results/train/packs/a.json\n")
    assert in_use({})


def test_a_folder_that_cannot_be_read_is_said_in_a_line(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object, **__: object) -> NoReturn:
        raise PermissionError(13, "Permission denied", "results/train/a/state.pt")

    monkeypatch.setattr("lora.plan.identity.check_all", closed)
    with pytest.raises(UserError, match="results: .*state.pt: permission denied"):
        begin(config(done))


def test_a_job_reads_the_plan_as_it_was_written(done: Path) -> None:
    written = begin(config(done))
    read = begin(config(done, train={"lr": 0.02}), main=False)
    assert read.jobs == written.jobs and read.packs == written.packs


def test_forced_rules_take_what_follows_with_them(done: Path) -> None:
    sweep = begin(config(done))
    start = freshness_start()
    sweep.force(frozenset({"e0s"}), start)
    assert newer(sweep, "e0s") and newer(sweep, "train/full_s3") and newer(sweep, "track")
    assert not newer(sweep, "split")


def freshness_start() -> Any:
    from lora.plan.start import Start

    return Start(cores=2)


# --- the first line


def said(capsys: pytest.CaptureFixture[str], raw: dict[str, Any], **start: Any) -> str:
    capsys.readouterr()
    begin(raw, **start)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("plan: ")]
    return line


def test_the_plan_counts_what_will_train_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = said(capsys, config(tmp_path))
    assert first == "plan: 5 of 5 points to train in 3 jobs: 5 new; no time known yet"
    pretend(begin(config(tmp_path)), seconds=360.0)
    assert said(capsys, config(tmp_path)) == "plan: nothing to train, 5 of 5 points are trained"
    lr = said(capsys, config(tmp_path, methods={"lora": {"lr": 0.02}}))
    assert lr.startswith("plan: 4 of 5 points to train in 2 jobs: 4 changed settings (points.")
    assert "lr: 0.01 -> 0.02" in lr and lr.endswith("about 0.4 CPU hours")
    grown = said(capsys, config(tmp_path, grid={"rank": [2, 4, 8], "alpha": [1, 8]}))
    assert grown == "plan: 2 of 7 points to train in 1 jobs: 2 new; about 0.2 CPU hours"
    shutil.rmtree(tmp_path / "results" / "train" / "packs")
    assert said(capsys, config(tmp_path)).startswith(
        "plan: 5 of 5 points to train in 3 jobs: 5 new"
    )


def test_the_plan_says_what_a_cluster_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = said(capsys, config(tmp_path), nodes=50)
    assert "at most 50 jobs at a time, limits of 12 hours in all" in line


def test_points_of_another_config_are_said(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two configs on one folder, one after the other: nothing leaves the report in silence."""
    begin(config(done, grid={"rank": [2], "alpha": [1, 8]}))
    said = capsys.readouterr().err
    assert "2 points of the last start are not in this config: lora_r4_a1_s3, lora_r4_a8_s3" in said
    begin(config(done))
    assert "last start" not in capsys.readouterr().err
