"""Every page of the report, written from small results folders."""

import base64
import re
from pathlib import Path

import pandas as pd
import pytest

from lora.catalogue import engines
from lora.errors import UserError
from lora.files.sealed import Receipt, digest, read_json, read_seal, write_sealed
from lora.plan import earlier
from lora.plan.layout import find_receipt
from lora.plan.sweep import Sweep
from lora.report import card_page, committee, style
from lora.report.checks_page import about_holes, write_checks
from lora.report.foundation_table import foundation_sentences
from lora.report.page import page, paragraph, rows_of
from lora.steps.choose import choose
from lora.steps.report import report
from tests.support.results import E0S, OPEN, TRUST, findings, make_sweep, trial, write_results

GRID = {"rank": [2, 4], "alpha": [8, 32], "seed": [3, 4], "train_fraction": [0.5, 1]}
GRID["replay"] = [False, True]
WHOLE = {
    "grid": GRID,
    "baselines": ["foundation", "full", "freeze", "full_replay"],
    "replay": {"file": "replay.xyz"},
    "rank_curve": True,
}


def figures(*names: str) -> set[str]:
    return {f"figures/{name}.{end}" for name in names for end in ("svg", "csv")}


FILES = {
    "summary": {"choice.html", "sweep.html", "checks.html", "checks.csv", "summary.txt"},
    "audit_page": {"audit.html", "audit.csv"},
    "trust_page": {"trust.html", "trust.csv"},
    "tables": {f"{x}.{end}" for x in ("cost", "e0s", "split") for end in ("html", "csv")},
    "figures": figures(
        *("heatmap", "methods", "parameters", "forgetting"),
        *("learning_curves", "parity", "spectrum"),
    ),
    "errors_page": {
        "errors.html",
        *(f"errors_{x}.csv" for x in ("elements", "types", "sizes", "directions", "relative")),
        *("errors_quantiles.csv", "errors_frames.csv"),
        *figures("error_elements", "error_sizes", "error_distribution"),
    },
    "dashboard": {"dashboard.html"},
    "committee": {"committee.json", *figures("committee")},
    "rank_curve": figures("rank_curve"),
    "data_size": figures("data_size"),
}


@pytest.fixture(autouse=True)
def no_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave PDF and PNG to tests/report/test_figures.py: they take most of the time."""
    monkeypatch.setattr(style, "ENDINGS", (".svg",))


def write_all(sweep: Sweep, *only: str) -> dict[str, set[str]]:
    """Decide and write some pages, else all but the card's; return the files of each page."""
    choose(sweep, Receipt(sweep.layout.receipt("choose")))
    written = {}
    names = [x.name for x in sweep.jobs.values() if x.step == "report" and x.name != "card_page"]
    assert set(only) <= set(names)
    for name in (x for x in names if not only or x in only):
        receipt = Receipt(sweep.layout.receipt("report", name))
        report(sweep, name, receipt)
        named = read_json(receipt.path)["files"]
        files = {f"../{x}": digest(sweep.layout.report(x)) for x in named}
        assert read_seal(receipt.path)["files"] == files
        assert {find_receipt(sweep.layout.report(x)) for x in named} == {receipt.path}
        written[name] = set(named)
    return written


def make(folder: Path, failed: tuple[str, ...] = (), **config: object) -> Sweep:
    sweep = make_sweep(folder, **config)
    errors = {name: 60.0 + i for i, name in enumerate(sweep.points)}
    checks = {name: {"forgetting": 100.0 + i, "nve": 0.1} for i, name in enumerate(sweep.points)}
    write_results(sweep, errors, failed, checks)
    return sweep


def test_every_page_of_a_large_sweep(tmp_path: Path) -> None:
    sweep = make(tmp_path, **WHOLE)
    assert write_all(sweep) == FILES
    report_of = sweep.layout.report
    for name in (x for files in FILES.values() for x in files):
        text = report_of(name).read_text()
        assert text.lstrip().startswith("<?xml") or not name.endswith(".svg")
        start = "<!doctype html>"  # with language and title, for those who do not see the page
        assert text.startswith(start) or not name.endswith(".html")
    best = read_json(sweep.layout.receipt("choose"))["point"]
    choice, summary = (report_of(x).read_text() for x in ("choice.html", "summary.txt"))
    for text in (choice, summary):
        assert f"Chosen: {best}" in text and "Committee of the 8 LoRA points" in text
        assert "Replay with LoRA, " in text and "nan" not in text
    chosen = sweep.points[best].group
    assert choice.count("class=chosen") == 1 and f"<tr class=chosen><th>{chosen}</th>" in choice
    for words in (str(sweep.layout.model(best)), "snakemake --report", "mlflow ui"):
        assert words in summary


def test_the_first_page_answers_what_a_reader_asks(tmp_path: Path) -> None:
    """Which model, how good, better than others, what it forgot, what to mind, what to do next."""
    sweep = make(tmp_path, **WHOLE)
    write_all(sweep, "committee", "summary")
    best = read_json(sweep.layout.receipt("choose"))["point"]
    text = sweep.layout.report("choice.html").read_text()
    box, rest = text.split("<div class=verdict>")[1].split("</div>", 1)
    asked = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", box, re.S)
    assert [x for x, _ in asked] == [
        *("Model", "Errors", "Better than?", "Forgot", "Mind", "Next"),
    ]
    answers = dict(asked)
    assert f"Chosen: {best}" in answers["Model"]
    assert "±" in answers["Errors"] and "force RMSE (meV/Å)" in answers["Errors"]
    assert "against full" in answers["Better than?"]
    assert "in multiples of its own" in answers["Forgot"]
    assert f"MACECalculator(&#34;{sweep.layout.model(best)}&#34;, default_dtype=" in box
    shown = re.findall(r"<figcaption><b>(.*?)\.</b>", rest)
    assert shown == ["Rank and alpha", "Methods", "Learning curves", "Parity"]
    pictures = [base64.b64decode(x) for x in re.findall(r"svg\+xml;base64,([^\"]+)", rest)]
    assert all(b"</svg>" in x and b"nan" not in x for x in pictures)


def test_where_e0s_are_from_and_what_is_open_is_said_once(tmp_path: Path) -> None:
    sweep = make(tmp_path)
    write_all(sweep, "committee", "summary", "tables")
    for name in ("choice.html", "summary.txt", "e0s.html"):
        assert sweep.layout.report(name).read_text().count(OPEN) == 1, name
    table = pd.read_csv(sweep.layout.report("e0s.csv"), index_col=0)
    assert table["from"].to_dict() == {"H": "free atom", "O": "tabulated atom"}
    assert "-2,041.000" in sweep.layout.report("e0s.html").read_text()  # eV, all that count
    assert table["prior (eV)"].to_dict() == {"H": -13.7, "O": -2028.0}


def test_pages_of_e0s_without_energies_or_of_an_older_version(tmp_path: Path) -> None:
    later = ("sources", "prior", "sentences", "warnings")
    old = {k: v for k, v in E0S.items() if k not in later}
    forces_only = E0S | {"n_structures": 0, "rmse_before_mev_per_atom": None, "prior": {}}
    for i, found in enumerate((old, forces_only)):
        sweep = make(tmp_path / str(i))
        write_sealed(sweep.layout.receipt("e0s"), found)
        write_all(sweep, "committee", "summary", "tables")
        text = sweep.layout.report("e0s.html").read_text()
        assert ("RMSE" in text) == (found is old) and "nan" not in text


def test_e0s_that_are_not_those_of_the_adapter_are_said(tmp_path: Path) -> None:
    folder = tmp_path / "one/train/p/adapter"
    folder.mkdir(parents=True)
    write_sealed(folder / earlier.CARD, {"E0s": E0S["E0s"] | {"O": -2041.02, "N": -5.0}})
    sweep = make(tmp_path, train={"start": "adapter", "start_from": str(folder)})
    write_all(sweep, "committee", "summary")
    said = "E0s are up to 20 meV (O) from those of the adapter that trainings go on from"
    for name in ("choice.html", "summary.txt"):
        assert sweep.layout.report(name).read_text().count(said) == 1
    write_sealed(folder / earlier.CARD, {"E0s": E0S["E0s"]})
    write_all(sweep, "committee", "summary")
    assert "go on from" not in sweep.layout.report("summary.txt").read_text()


ONE_SEED = WHOLE | {"grid": GRID | {"seed": [3]}}
LACKING = {
    "a test set without forces": ({"test": "force"}, {}),
    "a test set without energies": ({"test": "energy"}, {}),
    "no forces at all": ({"test": "force", "valid": "force"}, {"metric": "rmse_e_mev_per_atom"}),
}


@pytest.mark.parametrize(("lacking", "select"), LACKING.values(), ids=LACKING)
def test_sets_that_lack_a_label(tmp_path: Path, lacking: dict, select: dict) -> None:
    """Every page is written; a dash stands where there is no error."""
    sweep = make_sweep(tmp_path, **ONE_SEED, **({"select": select} if select else {}))
    errors = {name: 60.0 + i for i, name in enumerate(sweep.points)}
    write_results(sweep, errors, lacking=lacking)
    assert write_all(sweep) == FILES
    text = sweep.layout.report("summary.txt").read_text()
    assert "nan" not in text and ("| -" in text or "- |" in text)
    label = "Energy" if lacking["test"] == "force" and len(lacking) == 2 else "Force"
    assert f"{label} RMSE (" in text or lacking == {"test": "force"}
    assert "dft.xyz: the key head of 2 structures is left out." in text
    for name in ("sweep.html", "choice.html", "split.html"):
        words = re.sub(r"base64,[^\"]+", "", sweep.layout.report(name).read_text())  # no pictures
        assert "nan" not in words.split("</style>")[1].lower()


def test_an_error_that_no_point_has_cannot_choose(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path)
    write_results(sweep, dict.fromkeys(sweep.points, 60.0), lacking={"valid": "force"})
    with pytest.raises(UserError, match="select.metric: the validation set has no labels for rmse"):
        choose(sweep, Receipt(sweep.layout.receipt("choose")))


def test_lines_of_the_learning_curve_join_shares_and_seeds(tmp_path: Path) -> None:
    sweep = make(tmp_path, **WHOLE)
    write_all(sweep, "data_size")
    data = pd.read_csv(sweep.layout.report("figures/data_size.csv"))
    lines = data.groupby("family")["n_train"].unique().map(sorted)
    assert set(lines.index) == {
        *(f"lora_r{r}_a{a}{x}" for r in (2, 4) for a in (8, 32) for x in ("", "_replay")),
        *("full", "freeze", "full_replay"),
    }
    assert (lines.map(tuple) == (20, 40)).all()
    assert "lora_r2_a8_f0.5" not in sweep.layout.figure("data_size").read_text()


def test_figures_leave_out_what_failed(tmp_path: Path) -> None:
    lost = "lora_r2_a8_s3"
    sweep = make(tmp_path, (lost, "full_s3"))
    pages = ("committee", "summary", "audit_page", "trust_page", "tables", "figures")
    pages += ("errors_page", "dashboard")
    assert write_all(sweep) == {x: FILES[x] for x in pages}
    for name in FILES["figures"] | FILES["committee"] | FILES["errors_page"] | {"checks.csv"}:
        assert lost not in sweep.layout.report(name).read_text(), name
    for name in ("sweep.csv", "sweep.html", "cost.csv", "summary.txt"):
        assert lost in sweep.layout.report(name).read_text(), name
    curves = pd.read_csv(sweep.layout.report("figures/learning_curves.csv"))
    assert set(curves["point"]) == {"lora_r4_a8_s3"}


def test_a_committee_of_one_is_none(tmp_path: Path) -> None:
    sweep = make(tmp_path, ("lora_r2_a8_s3",))
    write_all(sweep, "committee", "summary")
    found = read_json(sweep.layout.report("committee.json"))
    assert found["members"] == 1 and found["sets"] == {}
    assert "There is no committee" in sweep.layout.report("summary.txt").read_text()


def test_bounds_are_called_an_uncertainty_only_where_they_hold(tmp_path: Path) -> None:
    sweep = make(tmp_path)
    write_all(sweep, "committee", "summary", "trust_page")
    line = (
        "Bounds of force errors (from the last layer, calibrated on 30 validation structures) are "
        "an uncertainty on test, where 91.0 % (89.0 to 93.0) of components keep them, but not on "
        "hot, where 70.0 % (68.0 to 72.0) of components keep them; 90 % nominal."
    )
    for name in ("choice.html", "summary.txt", "trust.html"):
        assert sweep.layout.report(name).read_text().count(line) == 1, name
    assert line in sweep.layout.report("summary.txt").read_text().splitlines()
    table = pd.read_csv(sweep.layout.report("trust.csv"))
    told = table.set_index(["source", "test_set"])["uncertainty"].to_dict()
    assert told == {
        ("features", "test"): True,
        ("features", "hot"): False,
        ("committee", "test"): False,
        ("committee", "hot"): False,
    }
    assert (table["median_bound_mev_per_a"] == 50).all()
    assert (table["largest_bound_ev_per_a"] == 0.6).all()


NO_BOUNDS: dict[str, tuple[dict, str]] = {
    "nowhere": (trial(test=0.7), "calibrated on 30 validation structures) are not an uncertainty"),
    "everywhere": (trial(test=0.9, hot=0.89), "are an uncertainty on test, where 90.0 % (88.0"),
    "unseen": (trial(), "are not called an uncertainty: no test set has forces"),
    "none": ({}, "There are no bounds of force errors: 5 structures are too few."),
}


@pytest.mark.parametrize(("found", "words"), NO_BOUNDS.values(), ids=NO_BOUNDS)
def test_what_is_said_of_bounds(tmp_path: Path, found: dict, words: str) -> None:
    sweep = make(tmp_path)
    sources = {"features": found} if found else {}
    told = {"why": "" if found else "5 structures are too few", "sources": sources}
    write_sealed(sweep.layout.receipt("trust"), TRUST | told)
    write_all(sweep, "committee", "summary", "trust_page")
    for name in ("choice.html", "summary.txt", "trust.html"):
        text = sweep.layout.report(name).read_text()
        assert words in text and "but not" not in text, name


def test_the_committee_is_of_the_points_of_its_job(tmp_path: Path) -> None:
    sweep = make(tmp_path, **WHOLE)
    assert committee.sound(sweep) == [
        f"lora_r{r}_a{a}_s{s}" for r in (2, 4) for a in (8, 32) for s in (3, 4)
    ]


def test_where_nothing_but_the_foundation_model_is_left_nothing_is_chosen(tmp_path: Path) -> None:
    sweep = make(tmp_path, ("lora_r2_a8_s3", "lora_r4_a8_s3", "full_s3"))
    with pytest.raises(UserError, match="every training failed: memory ran out"):
        write_all(sweep)


def test_without_checks_it_is_said(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, checks={"quick": [], "standard": [], "thorough": []})
    write_results(sweep, {name: 60.0 + i for i, name in enumerate(sweep.points)})
    write_all(sweep, "committee", "summary", "figures")
    assert "asks for no checks" in sweep.layout.report("checks.html").read_text()
    assert "forgetting was not checked" in sweep.layout.figure("forgetting").read_text()
    assert "pass the checks" not in sweep.layout.report("summary.txt").read_text()


def test_what_the_audit_warned_of_stands_on_the_first_page(tmp_path: Path) -> None:
    sweep = make(tmp_path)
    write_all(sweep, "committee", "summary", "audit_page")
    texts = {x: sweep.layout.report(x).read_text() for x in ("choice.html", "summary.txt")}
    for text in texts.values():
        assert "Warning: frame 7 is odd." in text and "Accepted: of other sign." in text
        assert "no stress of 3" not in text
    page = sweep.layout.report("audit.html").read_text()
    for words in ("frame 7 is odd", "of other sign", "no stress of 3", "data.xyz", "0.96"):
        assert words in page
    table = pd.read_csv(sweep.layout.report("audit.csv"))
    assert list(table["label"]) == ["energy", "forces"]  # no stress was compared


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    sweep = make(tmp_path)
    choose(sweep, Receipt(sweep.layout.receipt("choose")))
    history = sweep.layout.training("full_s3") / "metrics.jsonl"
    history.write_text(history.read_text().replace("30.0", "1.0"))
    receipt = Receipt(sweep.layout.receipt("report", "figures"))
    with pytest.raises(UserError, match="metrics.jsonl does not match the checksum in train.json"):
        report(sweep, "figures", receipt)
    assert not receipt.path.exists()


def test_a_results_folder_can_be_moved(tmp_path: Path) -> None:
    make(tmp_path / "old")
    (tmp_path / "old/results").rename(tmp_path / "new")
    sweep = Sweep.load(tmp_path / "new/plan.json")
    write_all(sweep)
    assert (tmp_path / "new/report/choice.html").is_file()


def test_cells_and_words_are_escaped() -> None:
    table = pd.DataFrame({"a<b": ["<script>", "it's"]}, index=["x&y", "z"])
    text = page("<title>", paragraph("1 < 2", lead="Mind:", note=True), rows_of(table, "z"))
    for words in ("a&lt;b", "&lt;script&gt;", "it&#39;s", "x&amp;y", "&lt;title&gt;", "1 &lt; 2"):
        assert words in text
    assert "<tr class=chosen><th>z</th><td>it" in text and text.count("class=chosen") == 1
    assert "<p class=note><b>Mind:</b> 1 &lt; 2</p>" in text


CARD = {
    "point": "lora_r4_a8_s3",
    "class": "ScaleShiftMACE",
    "dtype": "float32",
    "layout": "e3nn",
    "head": "Default",
    "r_max": 4.5,
    "elements": ["H", "C", "O"],
    "fine_tuned_elements": ["H", "O"],
    "fingerprint": "f" * 16,
    "versions": {"torch": "2"},
    "base": {"name": "base.model", "fingerprint": "b" * 16, "licence": None},
    "data": {"file": "data.xyz", "digest": "d" * 16, "licence": "none; it's made up"},
    "settings": {"method": "lora", "rank": 4, "lr": None},
    "errors": {"test": {"rmse_e_mev_per_atom": 1.234, "rmse_f_mev_per_a": 56.78}},
    "new_E0s": {"method": "auto", "rank": 1, "n_elements": 2, "sources": {"H": "free atom"}},
    "warnings": ["it is a test"],
    "cite": ["a paper"],
}


@pytest.mark.parametrize("engine", engines.NAMES)
def test_the_card_says_how_to_load_a_file_in_every_engine(tmp_path: Path, engine: str) -> None:
    sweep = make_sweep(tmp_path)
    name = f"lora_r4_a8_s3{engines.BY_NAME[engine].suffix}"
    card = CARD | {"files": {name: {"engines": [engine], "sha256": "5" * 64}}}
    verified = [{"engine": engine, "energy": 1e-9, "verdict": "passed", "why": ""}]
    exported = {"folder": "somewhere", "card": card, "verified": verified}
    write_sealed(sweep.layout.receipt("export"), exported)
    sweep.layout.table.parent.mkdir()
    (path,) = card_page.write(sweep)
    text = path.read_text()
    for words in (
        f"somewhere/{name}",
        "<b>Mind:</b> it is a test.",
        "1.23 meV/atom, 56.8 meV/Å (RMSE)",
        "none; it&#39;s made up",
        "method lora, rank 4<",
        "auto: H free atom (1 of 2 determined by the compositions)",
        "1.0e-09",
        "To cite: a paper.",
    ):
        assert words in text, words
    assert "{" not in text.split("</style>")[1]


def test_the_card_says_how_to_load_the_model_with_its_bounds(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path)
    files = {
        "p.model": {"engines": ["ase"], "sha256": "5" * 64},
        "p.trust.json": {"engines": [], "sha256": "6" * 64},
    }
    trust = {"trust": {"file": "p.trust.json"} | trial(test=0.91)}
    exported = {"folder": "somewhere", "card": CARD | trust | {"files": files}, "verified": []}
    write_sealed(sweep.layout.receipt("export"), exported)
    sweep.layout.table.parent.mkdir()
    (path,) = card_page.write(sweep)
    text = path.read_text()
    assert "Watched(&#34;somewhere/p.model&#34;, &#34;somewhere/p.trust.json&#34;)" in text
    assert "are an uncertainty on test" in text and "6" * 64 in text
    assert "{" not in text.split("</style>")[1]


def test_the_first_page_says_what_to_mind_of_the_foundation_model(tmp_path: Path) -> None:
    layout = make_sweep(tmp_path).layout
    assert foundation_sentences(layout) == []  # made before it was kept
    receipt = layout.receipt("foundation")
    write_sealed(receipt, {"licence": "not known", "repaired": ["no heads"]})
    assert foundation_sentences(layout) == [
        "The licence of the foundation model is not known; look it up before you publish.",
        "The file of the foundation model was mended: no heads.",
    ]
    write_sealed(receipt, {"licence": "ASL: no commercial use", "repaired": []})
    assert "ASL: no commercial use; it holds for this model" in foundation_sentences(layout)[0]
    write_sealed(receipt, {"licence": "MIT", "repaired": []})
    assert foundation_sentences(layout) == []


def test_the_pages_say_which_rate_of_holes_a_search_could_have_seen(tmp_path: Path) -> None:
    found = {"a": findings({"holes": 0.0}), "b": findings({"nve": 0.1})}
    page, table = write_checks(found, {}, tmp_path / "checks.html")
    assert "0 (&lt; 0.9)" in page.read_text() and "95 % confidence" in page.read_text()
    assert pd.read_csv(table)["below"].tolist()[0] == pytest.approx(0.8287)
    (sentence,) = about_holes(found["a"])
    assert "0 of 360 random structures fell" in sentence and "fewer than 0.9 % of" in sentence
    older = {"holes": found["a"]["holes"] | {"detail": {"structures": 40}}}
    for unknown in (found["b"], older, {}):
        assert about_holes(unknown) == []
