"""A whole sweep of tiny points through the real workflow, and what makes which part stale."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lora.calculators.committee import Committee
from lora.calculators.watched import Watched
from lora.catalogue.columns import BY_KEY
from lora.cli.main import main
from lora.data.calibration import Calibration
from lora.data.structures import load_structures, write_structures
from lora.files.sealed import read_json, write_sealed
from lora.files.terminal import WIDTH
from lora.mace.foundation import fingerprint, load_foundation
from lora.mace.labelling import label
from lora.plan.layout import Layout
from lora.plan.sweep import Sweep as Plan
from lora.steps.evaluate import evaluate
from lora.steps.verify import verify
from tests.support.models import make_model
from tests.support.published import HEADS
from tests.support.store import Server, all_of
from tests.support.sweep import Sweep, ran, unwrapped
from tests.support.trainings import teacher_data

pytestmark = pytest.mark.slow
POINTS = ["lora_r1_a0.5_s3", "lora_r2_a0.5_s3", "full_s3"]
FIGURES = [
    "heatmap",
    "forgetting",
    "parameters",
    "learning_curves",
    "parity",
    "rank_curve",
    "spectrum",
    "committee",
    "methods",
    "error_elements",
    "error_sizes",
    "error_distribution",
]
CUT = "lora_r2_a0.5_s3_cut1"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return ran(tmp_path_factory.mktemp("a sweep"))


def test_everything_is_there(sweep: Sweep) -> None:
    out = sweep.home / "out"
    for point in POINTS:
        for name in ("adapter/adapter.safetensors", "adapter/adapter.json", "metrics.jsonl"):
            assert (out / "train" / point / name).is_file()
    for point in [*POINTS, "foundation", CUT]:
        proof = json.loads((out / "merge" / point / "merge.json").read_text())
        assert max(proof["max_abs_difference"].values()) < 1e-9
        assert (out / "evaluate" / f"{point}.parquet").is_file()
    table = pd.read_csv(out / "report/sweep.csv")
    assert set(table["point"]) == {*POINTS, "foundation", CUT}
    assert set(table["test_set"]) == {"valid", "test", "hot"}
    assert len(table) == 5 * 3
    cut = table[table["point"] == CUT].iloc[0]
    assert (cut["method"], cut["rank"]) == ("cut", 1)
    for column in ("rmse_e_mev_per_atom", "rmse_f_mev_per_a", "mae_f_mev_per_a"):
        assert table[column].notna().all()
    assert set(json.loads((out / "track/runs.json").read_text())["runs"]) == {*POINTS, "foundation"}
    members = read_json(out / "plan.json")["members"]
    assert list(members["lora_s3_1"][1]) == POINTS[:2] and list(members["cut_s3"][1]) == [CUT]
    for name in FIGURES:
        figure = out / f"report/figures/{name}"
        assert figure.with_suffix(".svg").read_text().lstrip().startswith("<?xml")
        assert all(figure.with_suffix(x).is_file() for x in (".csv", ".pdf", ".png"))
    best = json.loads((out / "report/best.json").read_text())
    spectrum = pd.read_csv(out / "report/figures/spectrum.csv")
    assert set(spectrum["point"]) == {best["lora"]} <= set(POINTS)
    assert spectrum["effective_rank"].between(0.99, 2.01).all() and len(spectrum) > 20
    valid = table[table["test_set"] == "valid"].set_index("point")["rmse_f_mev_per_a"]
    assert best["point"] == valid.idxmin()
    assert (sweep.home / best["model"]).is_file()
    for words in (best["model"], "snakemake --report", "mlflow ui", "against full"):
        assert words in sweep.printed
    costs = pd.read_csv(out / "report/cost.csv", index_col=0)
    assert (costs.loc[POINTS, BY_KEY["train_seconds"].heading] > 0).all() and (
        costs["GPU hours"].dropna() == 0
    ).all()
    assert pd.read_csv(out / "report/e0s.csv", index_col=0)["new (eV)"].notna().all()
    assert pd.read_csv(out / "report/split.csv", index_col=0).loc["hot", "structures"] == 3
    # a person sees each training, and which point it is
    assert re.search(r"^full_s3 +epoch +2/2 .* meV/Å", sweep.printed, re.M)
    assert "parameters train" in (out / "logs/train/full_s3.log").read_text()
    assert json.loads((out / "train" / POINTS[0] / "train.json").read_text())["pack_size"] == 2


def test_a_person_reads_a_line_a_step(sweep: Sweep) -> None:
    """At most three a job with the findings and the epochs, each of the width of a terminal."""
    head, _, tail = sweep.first.partition("\nRMSE of energy")
    summary, _, log = tail.partition("Chosen: ")[2].partition("\ncompare ")
    jobs = int(re.search(r"^(\d+) jobs: ", log, re.M)[1])
    steps = [int(x) for x in re.findall(rf"^ *(\d+) of {jobs}  ", log, re.M)]
    assert steps == list(range(1, jobs + 1))
    assert len([*head.splitlines(), *log.splitlines()]) <= 3 * jobs
    of_snakemake = ("Complete log", "          (or MLFLOW")
    lines = [*head.splitlines(), *summary.splitlines(), *log.splitlines()]
    assert [x for x in lines if len(x) > WIDTH and not x.startswith(of_snakemake)] == []
    best = json.loads((sweep.home / "out/report/best.json").read_text())["point"]
    for words in (f"choose      {best}", "the same in ase, lammps", "epoch 2 of 2, ", " left\n"):
        assert words in log, words
    assert "audit: " not in log and "warning: data.xyz: forces" in head
    assert f"export    out/export/{best}" in summary
    for words in ("Shell command", "input:", "Select jobs"):
        assert words not in sweep.first


def test_committee_of_the_report_is_the_calculators(sweep: Sweep) -> None:
    """Spread and error from the parity files are those of the ASE calculator, atom by atom."""
    out = sweep.home / "out"
    table = pd.read_csv(out / "report/figures/committee.csv")
    lora = [point for point in POINTS if point.startswith("lora")]
    calculator = Committee(
        sweep.home / "base.model", [out / "train" / point / "adapter" for point in lora]
    )
    test = [a for a in load_structures(out / "data/test.xyz") if a.info["test_set"] == "test"]
    for i, atoms in enumerate(test):
        own = table[(table["test_set"] == "test") & (table["structure"] == i)]
        force, energy = (own[own["quantity"] == x] for x in ("force", "energy"))
        calculator.calculate(atoms)
        found = calculator.results
        assert force["spread"].to_numpy() == pytest.approx(found["forces_spread"], rel=1e-4)
        error = np.linalg.norm(found["forces"] - atoms.arrays["REF_forces"], axis=1)
        assert force["error"].to_numpy() == pytest.approx(error, rel=1e-4)
        spread = found["energy_spread"] / len(atoms)
        assert energy["spread"].to_numpy() == pytest.approx([spread], rel=1e-3)
        assert (found["forces_spread"] > 1e-6).all()
    measured = json.loads((out / "report/committee.json").read_text())
    assert measured["members"] == 2 and set(measured["sets"]) == {"test", "hot"}
    for test_set, numbers in measured["sets"].items():
        part = table[(table["test_set"] == test_set) & (table["quantity"] == "force")]
        rho = part["spread"].corr(part["error"], method="spearman")
        assert numbers["force"]["rho"] == pytest.approx(rho, abs=1e-3)
        assert numbers["force"]["rho_low"] <= rho <= numbers["force"]["rho_high"]
    assert "Committee of the 2 LoRA points" in sweep.printed


def test_export_is_proved_and_told_of(sweep: Sweep) -> None:
    out = sweep.home / "out"
    best = json.loads((out / "report/best.json").read_text())["point"]
    found = json.loads((out / "export/export.json").read_text())
    assert [row["verdict"] for row in found["verified"]] == ["passed", "passed"]
    assert {p.name for p in (out / "export" / best).iterdir()} == {
        *(f"{best}.model", f"{best}.model-lammps.pt", "card.json", "verify.json"),
        f"{best}.trust.json",
    }
    card = found["card"]
    merged = json.loads((out / "merge" / best / "merge.json").read_text())
    assert card["fingerprint"] == merged["fingerprint"]
    assert card["data"]["licence"] == "none; it's made up" and set(card["errors"]) >= {
        "test",
        "hot",
    }
    page = (out / "report/card.html").read_text()
    for words in (best, "MACECalculator(", "pair_style mace", "passed", "none; it&#39;s made up"):
        assert words in page, words


def test_bounds_of_force_errors_go_from_the_config_to_the_export(sweep: Sweep) -> None:
    """Where they hold is said at the end, on the first page and on the card."""
    out = sweep.home / "out"
    best = json.loads((out / "report/best.json").read_text())["point"]
    words = (
        "Bounds of force errors (from the last layer, calibrated on 3 validation structures) are"
    )
    assert words in unwrapped(sweep.printed) and "75 % nominal." in sweep.printed
    for name in ("choice.html", "trust.html", "card.html"):
        assert words in (out / "report" / name).read_text(), name
    found = json.loads((out / "trust/trust.json").read_text())
    assert found["point"] == best and list(found["sources"]) == ["features", "committee"]
    for source in found["sources"].values():
        assert set(source["sets"]) == {"test", "hot"} and source["bound"]["coverage"] == 0.75
    atoms, folder = teacher_data(1, seed=9)[0], out / "export" / best
    atoms.calc = Watched(folder / f"{best}.model", folder / f"{best}.trust.json")
    assert np.isfinite(atoms.get_forces()).all()
    expected = Calibration.read(out / f"trust/{best}.json").trial.to_dict()
    card = json.loads((folder / "card.json").read_text())
    assert card["trust"] == {"file": f"{best}.trust.json"} | expected
    assert (atoms.calc.results["forces_bound"] > 0).all()
    assert verify(out)


def test_chosen_model_runs_in_ase(sweep: Sweep) -> None:
    from lora.mace.door import upstream

    best = json.loads((sweep.home / "out/report/best.json").read_text())
    atoms = teacher_data(1, seed=9)[0]
    atoms.calc = upstream("mace.calculators").MACECalculator(
        model_paths=str(sweep.home / best["model"]), device="cpu", default_dtype="float64"
    )
    assert abs(atoms.get_potential_energy()) < 1e3


def test_again_does_nothing(sweep: Sweep) -> None:
    assert sweep.todo() == {}


def test_touching_does_nothing(sweep: Sweep) -> None:
    for path in sweep.home.rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts and "out" not in path.parts:
            path.touch()
    todo = sweep.todo()
    assert not {"split", "e0s", "train", "merge", "evaluate"} & set(todo)


def test_a_deleted_foundation_model_is_kept_again_and_nothing_else_runs(sweep: Sweep) -> None:
    """Results of versions that did not keep it have none, either."""
    kept = sweep.home / "out/foundation"
    shutil.rmtree(kept)
    assert sweep.todo() == {"foundation": 1}
    sweep.run()
    assert sweep.todo() == {}
    assert (kept / "foundation.model").read_bytes() == (sweep.home / "base.model").read_bytes()


def test_one_more_alpha_trains_only_its_points(sweep: Sweep) -> None:
    sweep.config["grid"]["alpha"].append(8)
    try:
        todo = sweep.todo()
    finally:
        sweep.config["grid"]["alpha"].pop()
    assert (todo["train"], todo["truncate"]) == (1, 1)  # a pack of ranks 1 and 2; 2 cut to 1
    assert (todo["merge"], todo["evaluate"]) == (2, 2)  # of that pack, and of the cuts
    assert "split" not in todo and "e0s" not in todo


def test_a_changed_rate_trains_again_with_all_that_follows_in_one_start(sweep: Sweep) -> None:
    sweep.config["methods"] = {"lora": {"lr": 0.02}}
    try:
        todo = sweep.todo()
    finally:
        del sweep.config["methods"]
    assert (todo["train"], todo["truncate"]) == (1, 1)
    assert (todo["merge"], todo["evaluate"], todo["check"]) == (2, 2, 2)  # the cuts, too
    assert {"choose", "summary", "figures", "export", "card", "track"} <= set(todo)
    assert "split" not in todo and "e0s" not in todo


def test_a_threshold_of_the_audit_and_a_lost_one_train_nothing(sweep: Sweep) -> None:
    shown = {"audit", "summary", "audit_page", "export", "card", "track"}
    sweep.config["audit"] = {"outlier": 5}
    try:
        assert set(sweep.todo()) == shown
    finally:
        del sweep.config["audit"]
    receipt = sweep.home / "out/audit/audit.json"
    kept = receipt.with_suffix(".kept")
    receipt.rename(kept)
    try:
        assert set(sweep.todo()) == shown
        sweep.config["methods"] = {"full": {"lr": 0.02}}
        assert {"audit", "train", "choose"} <= set(sweep.todo())
    finally:
        sweep.config.pop("methods", None)
        kept.rename(receipt)
    assert sweep.todo() == {}


def test_comments_make_nothing_stale(sweep: Sweep) -> None:
    """Which code counts is in tests/plan; here, that snakemake hears of it from the plan alone."""
    for module in ("steps/evaluate", "training/loop", "plan/points"):
        path = sweep.home / "lora" / f"{module}.py"
        path.write_text(path.read_text() + "\n# edited\n")
    assert sweep.todo() == {}


def test_report_is_one_page(sweep: Sweep) -> None:
    sweep.run("--report", "report.html")
    page = (sweep.home / "report.html").read_text()
    assert "heatmap.svg" in page and "sweep.html" in page and "What won" in page
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="https?://', page)


def test_a_server_that_is_down_is_filled_later(sweep: Sweep) -> None:
    """The sweep ends well; the next start tells the server all, and the one after has no work."""
    server = Server(sweep.home)
    before = sweep.config.copy()
    sweep.run()
    sweep.config["tracking"] = {"uri": server.uri, "live": True}
    try:
        assert sweep.todo() == {"track": 1}
        assert "Results are safe" in sweep.run()
        assert sweep.todo() == {"track": 1}
        server.start()
        sweep.run()
        assert sweep.todo() == {}
        found = all_of(server.uri, "mace-lora-sweep")
    finally:
        sweep.config = before
        if hasattr(server, "process"):
            server.kill()
    assert set(found) == {*POINTS, "foundation"}
    assert all(run["status"] == "FINISHED" for run in found.values())
    assert [step for step, _ in found["full_s3"]["loss"]] == [0, 1, 2]


def test_points_have_canonical_names(sweep: Sweep) -> None:
    names = {p.name for p in (sweep.home / "out/train").iterdir()}
    assert {*POINTS, "packs"} <= names <= {*POINTS, "packs", "tries.json"}


def test_a_grid_that_shrinks_retrains_nothing(sweep: Sweep) -> None:
    """A trained pack stays what it is when some of its points are no longer asked for."""
    sweep.config["grid"]["rank"] = [2]
    try:
        todo = sweep.todo()
    finally:
        sweep.config["grid"]["rank"] = [1, 2]
    assert not {"split", "e0s", "train"} & set(todo)


@pytest.mark.long(only=True)
def test_points_that_train_alone_are_judged_together(tmp_path: Path) -> None:
    """What came of a point is what the commands find of it by itself."""
    sweep = Sweep(tmp_path)
    sweep.config |= {"rank_curve": False, "baselines": ["full"], "methods": {"full": {"lr": 0.01}}}
    sweep.config["grid"] = {"rank": [1], "alpha": [0.5], "seed": [1, 2]}
    sweep.config["checks"] |= {"quick": ["gradients"], "standard": [], "thorough": []}
    sweep.run("--until", "choose")
    layout, points = Layout(sweep.home / "out"), ["full_s1", "full_s2"]
    for step in ("merge", "evaluate", "check"):
        assert list(read_json(layout.receipt(step, "full_1"))) == points
    assert set(read_json(layout.receipt("train", "full_s1"))) == {"full_s1"}
    for point in points:
        alone = tmp_path / f"{point}.json"
        evaluate({alone: layout.model(point)}, layout.split("valid"), layout.split("test"))
        assert read_json(alone)["sets"] == read_json(layout.errors(point))["sets"]
    assert not sweep.todo().keys() & {"train", "merge", "evaluate", "check", "choose"}


def test_labels_of_another_sign_stop_before_training(sweep: Sweep, tmp_path: Path) -> None:
    broken = Sweep(tmp_path / "broken")
    frames = load_structures(broken.home / "data.xyz")
    base = load_foundation(broken.home / "base.model")
    for atoms, right in zip(frames, label(frames, base), strict=True):
        atoms.arrays["REF_forces"] = -right.arrays["REF_forces"]
        atoms.info["REF_energy"] = right.info["REF_energy"]
    write_structures(broken.home / "data.xyz", frames)
    with pytest.raises(AssertionError, match=r"audit: data\.xyz: forces: -1 times .* gradients"):
        broken.run()
    assert not (broken.home / "out/e0s/e0s.json").exists()
    assert not (broken.home / "out/train/packs").exists()
    broken.config["audit"] = {"accept": ["forces_sign"]}
    assert "accepted: data.xyz: forces" in broken.run("audit")


def test_bad_data_stops_before_training(sweep: Sweep, tmp_path: Path) -> None:
    broken = Sweep(tmp_path / "broken")
    text = (broken.home / "data.xyz").read_text()
    (broken.home / "data.xyz").write_text(text.replace("REF_energy", "energy_of_mine"))
    with pytest.raises(AssertionError, match="no frame has REF_energy; it has energy_of_mine"):
        broken.run()
    assert not (broken.home / "out/train/packs").exists()


def test_a_foundation_model_that_is_of_no_use_stops_before_training(tmp_path: Path) -> None:
    """Why stands on the terminal, not in the log alone."""
    broken = Sweep(tmp_path / "broken")
    torch.save(make_model(HEADS), broken.home / "base.model")
    with pytest.raises(AssertionError, match="has several heads, choose one of: pbe, r2scan"):
        broken.run()
    assert not (broken.home / "out/train/packs").exists()


def _measured(layout: Layout, point: str) -> tuple[str, dict]:
    """Return the fingerprint of a point's model, and its errors."""
    model = load_foundation(layout.model(point))
    return fingerprint(model), read_json(layout.errors(point))["sets"]


def test_models_of_finalists_alone_are_kept_where_that_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was measured of the others stands, and their models come back where they are needed."""
    sweep = ran(tmp_path)
    layout = Layout(sweep.home / "out")
    ended = [*POINTS, CUT, "foundation"]
    assert all(layout.model(x).is_file() for x in ended)
    before = {x: _measured(layout, x) for x in ended}
    sweep.config |= {"keep_models": "finalists"}
    sweep.config["checks"]["winners"] = 1
    assert sweep.todo().keys() & {"train", "merge", "evaluate", "check"} == set()
    assert "the adapters are kept (keep_models)" in sweep.run()
    kept = {x for x in ended if layout.model(x).is_file()}
    best = read_json(layout.receipt("choose"))["point"]
    assert {best, "foundation"} <= kept == {*read_json(layout.receipt("shortlist"))["models"], best}
    assert len(kept) < len(ended)
    sweep.run("-R", "evaluate", "--until", "evaluate")  # without their models
    assert {x for x in ended if layout.model(x).is_file()} == kept
    gone = next(x for x in POINTS if x not in kept)
    assert main(["merge", str(layout.plan), gone]) == 0
    again = {x: _measured(layout, x) for x in (gone, *kept)}
    assert again == {x: before[x] for x in again}
    layout.model(gone).unlink()
    receipt = layout.receipt("merge", Plan.load(layout.plan).bundle_of(gone))
    merged = read_json(receipt)
    write_sealed(receipt, merged | {gone: merged[gone] | {"fingerprint": "of another"}})
    for _ in range(2):  # also where it is tried again
        assert main(["evaluate", str(layout.plan), gone]) == 2
        assert "merged again it is another model" in capsys.readouterr().err
    assert not layout.model(gone).is_file()
