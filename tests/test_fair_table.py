"""The fair table: its cells, the configs that they run, what is kept of them, and the page.

docs/fair_table/run.py takes hours; here its sweeps are made and read, with results that are given.
"""

import math
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from ase.calculators.emt import EMT
from mace.tools import build_default_arg_parser

from lora.files.sealed import Receipt, read_json
from lora.files.xyz import scan
from lora.plan.config import Config
from lora.plan.freshness import Files
from lora.plan.sweep import Sweep
from tests.support.results import write_results

sys.path.insert(0, str(Path(__file__).parents[1] / "docs/fair_table"))

import cells as table_cells
import collect
import fill
import make_base
import run
from cells import FIRST, PARTS, RATES, SEEDS, TABLE, TITLES, Cell

FOLDER = table_cells.HERE
CELL = Cell("small", "ethanol", 50, "estimated")
FRAME = (
    '2\nLattice="20.0 0.0 0.0 0.0 20.0 0.0 0.0 0.0 20.0" Properties=species:S:1:pos:R:3:'
    'REF_forces:R:3 REF_energy=-1.25 config_type=Default pbc="T T T"\n'
    "O 0 0 0 0 0 0.1\nH 0 0 1 0 0 -0.1\n"
)


def merged(below: dict, above: dict) -> dict:
    """As snakemake lays one config over another."""
    both = {k: merged(below[k], x) for k, x in above.items() if isinstance(below.get(k), dict)}
    return below | above | both


def planned(cell: Cell, stage: str, part: table_cells.Part, work: Path, rate: float) -> Sweep:
    rates = FIRST if stage == RATES else dict.fromkeys(cell.methods, (rate,))
    common = yaml.safe_load((FOLDER / "common.yaml").read_text())
    overlay = yaml.safe_load(yaml.safe_dump(cell.overlay(stage, part, rates, work)))
    return Sweep.from_config(Config.model_validate(merged(common, overlay)))


@pytest.mark.parametrize("cell", [CELL, Cell("larger", "uracil", 10, "average")])
def test_every_method_gets_the_same(cell: Cell, tmp_path: Path) -> None:
    settings: dict[str, list] = {}
    trained = 0
    for stage, part in ((s, p) for s in SEEDS for p in cell.parts):
        sweep = planned(cell, stage, part, tmp_path, 0.01)
        assert ("foundation" in sweep.points) == (stage == TABLE)
        trained += len(sweep.trained_points)
        for point in sweep.trained_points.values():
            one = point.settings
            assert one is not None
            settings.setdefault(part.method_of(point), []).append((stage, one.lr, one.seed))
            assert (one.max_num_epochs, one.patience, one.batch_size) == (cell.length,) * 2 + (5,)
            assert (one.ema_decay, one.clip_grad) == (0.99, 10)
            assert one.placement == ("all" if part.name == "all" else "linear")
            assert one.start == ("gradient" if part.name == "gradient" else "documented")
    for method, found in settings.items():
        assert len(FIRST[method]) == 3
        rates = [(RATES, lr, 0) for lr in FIRST[method]]
        assert sorted(found) == rates + [(TABLE, 0.01, seed) for seed in (1, 2, 3)]
    assert set(settings) == set(cell.methods) and trained == cell.trainings


def test_the_best_rate_lies_between_two_others() -> None:
    tried = {"full": (0.001, 0.003, 0.01), "lora": (0.003, 0.01, 0.03), "dora": (0.01, 0.03, 0.1)}
    more = table_cells.between(tried, {"full": 0.001, "lora": 0.01, "dora": 0.1})
    assert more == tried | {"full": (0.0003, 0.001, 0.003, 0.01)}  # there is none above 0.1
    assert table_cells.between(more, dict.fromkeys(more, 0.003) | {"dora": 0.03}) == more | {
        "lora": (0.001, 0.003, 0.01, 0.03)
    }


def test_a_training_sees_as_many_structures_whatever_their_number() -> None:
    assert {n * epochs for n, epochs in table_cells.EPOCHS.items()} == {10_000}
    assert set(table_cells.EPOCHS) == set(table_cells.SIZES)
    assert {x for part in PARTS for x in part.methods.values()} == set(TITLES)


def test_data_lose_their_box_and_nothing_else(tmp_path: Path) -> None:
    for name in table_cells.SETS:
        path = tmp_path / f"rmd17/ethanol/{name}.xyz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(FRAME * 12)
    table_cells.prepare(tmp_path / "rmd17", tmp_path, "ethanol", 10)
    files = table_cells.data_of(tmp_path, "ethanol", 10)
    counts = {name: len(list(scan(path))) for name, path in files.items()}
    assert counts == {"train": 10, "valid": 12, "test": 12}
    first = next(iter(scan(files["train"])))
    assert first.lines[2:] == FRAME.splitlines(keepends=True)[2:]
    assert {"REF_energy": "-1.25", "config_type": "Default"}.items() <= first.values.items()
    assert not {"Lattice", "pbc"} & set(first.values)
    with pytest.raises(run.UserError, match="12 structures, and 50 are asked for"):
        table_cells.prepare(tmp_path / "rmd17", tmp_path, "ethanol", 50)
    with pytest.raises(run.UserError, match="uracil.*materialscloud:wy-kn"):
        table_cells.prepare(tmp_path / "rmd17", tmp_path, "uracil", 10)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the CSV of a cell, of sweeps whose results are given."""
    work = tmp_path_factory.mktemp("fair")
    for stage, part in ((s, p) for s in SEEDS for p in CELL.parts):
        sweep = planned(CELL, stage, part, work, 0.01)
        errors = {
            x.name: abs(math.log(x.settings.lr / 0.003)) + x.settings.seed if x.settings else 90.0
            for x in sweep.points.values()
        }
        checks = {"foundation": {"dimers": 1.0}, "full_lr0.01_s2": {"dimers": 7.0}}
        write_results(sweep, errors, checks=checks)
        for path in (sweep.layout.receipt("train", x.name) for x in sweep.packs.values()):
            if path.is_file():
                trained = read_json(path)
                for name, one in trained.items():
                    one["best"] = {"valid_rmse_f_mev_per_a": errors[name]}
                Receipt(path).write(trained)
        sweep.save(Files())
    return work


def test_the_best_rate_is_found_on_the_validation_set(finished: Path) -> None:
    assert collect.best_rates(CELL, finished) == dict.fromkeys(TITLES, 0.003)


def test_a_cell_becomes_rows(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{CELL.name}.csv"
    collect.write_cell(CELL, finished, path)
    rows = pd.read_csv(path)
    trained = rows[rows["method"] != "foundation"]
    assert len(trained) == CELL.trainings
    assert (rows["method"] == "foundation").sum() == 1
    assert rows.loc[rows["stage"] == RATES, "test_rmse_f_mev_per_a"].isna().all()
    table = rows[rows["stage"] == TABLE]
    assert table["test_rmse_f_mev_per_a"].notna().all()
    assert list(rows.loc[rows["failed"].notna(), "method"]) == ["full"]
    assert trained["curve"].str.startswith("0:30").all() and path.stat().st_size < 20_000
    assert len(run.plan([CELL], tmp_path, 2)) == 2  # and it is not run again
    assert run.plan([CELL], tmp_path, 2)[0].endswith("finished")
    other = Cell("small", "aspirin", 50, "estimated")
    spent = trained["seconds"].sum()
    assert run.seconds(other, tmp_path) == pytest.approx(spent * 21 / 9, rel=1e-3)
    assert run.seconds(Cell("larger", "aspirin", 50, "estimated"), tmp_path) is None


def test_other_epochs_are_a_cell_of_their_own() -> None:
    assert (
        Cell("small", "ethanol", 50, "average", 400).name == "small_ethanol_n50_average_400epochs"
    )
    assert Cell("small", "ethanol", 50, "average", 200).name == "small_ethanol_n50_average"


def test_late_gain() -> None:
    assert collect.late_gain([10.0] * 91 + [9.0] * 10) == pytest.approx(0.1)
    assert collect.late_gain([20.0] * 50 + [9.0] * 51) == 0
    assert collect.thinned(200)[0] == 0 and collect.thinned(200)[-1] == 200


def made_up(shift: dict[str, float], molecules: list[str], n: int = 50) -> pd.DataFrame:
    rows = []
    for molecule in molecules:
        for method in TITLES:
            for seed in (1, 2, 3):
                error = 40.0 * shift.get(method, 1.0) + seed
                row = {"base": "small", "molecule": molecule, "n": n, "e0s": "estimated"}
                row |= {"length": 200}
                row |= {"stage": TABLE, "method": method, "lr": 0.03, "seed": seed}
                for column in ("valid_rmse_f_mev_per_a", "test_rmse_f_mev_per_a"):
                    row |= {column: error, column.replace("f_mev_per_a", "e_mev_per_atom"): 1.0}
                row |= {"forgetting": 5.0, "checks": 8, "failed": "", "curve": "0:90 200:40"}
                row |= {"epochs": 200, "best_epoch": 200, "ended_by": "max_num_epochs"}
                row |= {"late_gain": 0.001, "trainable_parameters": 1000, "seconds": 100.0}
                rows += [row, row | {"stage": RATES, "seed": 0}] if seed == 1 else [row]
    return pd.DataFrame(rows)


def test_no_winner_inside_of_the_noise(tmp_path: Path) -> None:
    shift = {"lora": 0.5, "dora": 1.02, "sparse": 2.0}
    table = made_up(shift, ["ethanol", "uracil", "toluene"])
    lines = fill.against_full(table[table["stage"] == TABLE], "test_rmse_f_mev_per_a", 1)
    row = {x.split(" | ")[0].strip("| "): x for x in lines.splitlines()}
    assert row["LoRA"].count("22.0 ± 1.0 ↓") == 3 and "0.52 (" in row["LoRA"]
    assert row["sparse"].count("↑") == 3
    assert "↑" not in row["DoRA"] and "↓" not in row["DoRA"]
    said = fill.said(table)
    assert "| LoRA | 3 lower |" in said and "| DoRA | 3 level |" in said
    assert "| sparse | 3 higher |" in said


def test_the_page_is_filled_with_what_is_measured(tmp_path: Path) -> None:
    page, results = tmp_path / "README.md", tmp_path / "results"
    page.write_text((FOLDER / "README.md").read_text())
    results.mkdir()
    fill.main(["--results", str(results), "--page", str(page)])
    assert "0 of 60 cells are finished" in page.read_text()
    assert page.read_text().count(fill.NOTHING.strip()) == len(fill.MAKERS)
    made_up({"lora": 0.5}, ["ethanol"]).to_csv(results / "one.csv", index=False)
    longer = made_up({}, ["ethanol"]).assign(length=400)
    longer.to_csv(results / "longer.csv", index=False)
    fill.main(["--results", str(results), "--page", str(page)])
    text = page.read_text()
    assert "1 of 60 cells are finished" in text and fill.NOTHING not in text
    assert "small base, 50 structures, E0s estimated, 400 epochs:" in text
    assert "| LoRA | 0.03 of 1 |" in text and "3 of 3 | 0 of 3 |" in text
    for name in ("e0s", "forces", "training"):
        assert f"]({name}.svg)" in text and (tmp_path / f"{name}.svg").stat().st_size < 60_000


def test_the_larger_base_has_not_seen_the_table() -> None:
    """Of the molecules that the quickstart samples only ethanol and its isomer have a formula."""
    script = make_base.quickstart()
    formulas = {"C9H8O4", "C2H6O", "C3H4O2", "C7H8", "C4H4N2O2"}
    same = {
        x
        for x in script.molecules()
        if script.molecule(x).get_chemical_formula(empirical=False) in formulas
    }
    assert same == {"CH3CH2OH", "CH3OCH3"}  # the other is dimethyl ether
    assert set(script.molecules()) - set(make_base.names(script)) == {"CH3CH2OH"}


def test_the_larger_base_is_made_by_the_quickstarts_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = make_base.quickstart()
    monkeypatch.setattr(script, "xtb", lambda atoms: EMT())
    monkeypatch.setattr(script, "TEMPERATURES", (300,))
    monkeypatch.setattr(script, "FRAMES", {"train": 2, "valid": 1})
    script.sample(["H2O"], tmp_path)
    counts = {x: len(list(scan(tmp_path / f"base_{x}.xyz"))) for x in ("train", "valid")}
    assert counts == {"train": 2 + 4, "valid": 1}  # and the free atoms

    def trained(command: list[str], check: bool) -> None:
        given = build_default_arg_parser().parse_args(command[1:])
        assert (given.num_channels, given.max_num_epochs) == (128, 8)
        assert given.train_file == str(tmp_path / "base_train.xyz")
        (Path(given.work_dir) / "base_stagetwo.model").write_text("a model")

    (tmp_path / "base_work").mkdir()
    monkeypatch.setattr(script.subprocess, "run", trained)
    script.train(8, make_base.CHANNELS, tmp_path, tmp_path / "larger.model")
    assert (tmp_path / "larger.model").read_text() == "a model"


def test_a_base_that_is_missing_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run.BASES, "larger", tmp_path / "larger.model")
    given = ["--data", str(tmp_path), "--bases", "larger", "--molecules", "uracil"]
    given += ["--e0s", "estimated", "--work", str(tmp_path), "--results", str(tmp_path)]
    assert run.main(given) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "larger.model: is not there" in line and "make_base.py sample" in line
