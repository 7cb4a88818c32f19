"""An export agrees with the merged model in every engine, and a broken one is caught in each."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from torch import nn

from lora.catalogue.engines import BY_NAME, DEFAULT, NAMES
from lora.data.calibration import Calibration, Trial
from lora.data.conformal import Bound
from lora.data.rigidity import Rigidity
from lora.data.structures import write_structures
from lora.errors import UserError
from lora.export.card import Licences, make_card, warnings_of
from lora.export.engines.base import name_of
from lora.export.engines.lammps import Lammps
from lora.export.formats import plain, write_format
from lora.export.verify import BOUNDS, Proof, choose, driver_of, verify
from lora.files.sealed import Receipt, read_json, read_seal, sha256, write_sealed
from lora.mace.elements import set_e0s
from lora.mace.foundation import fingerprint
from lora.mace.graphs import graphs
from lora.mace.last_layer import features
from lora.plan.commands import Run
from lora.plan.config import Config
from lora.plan.freshness import Files
from lora.plan.layout import Layout
from lora.plan.sweep import Sweep
from lora.report.card_page import WATCHED
from lora.steps.export import ExportSettings, export, find
from tests.support import counts
from tests.support.docs import fenced
from tests.support.models import BASE, CASES, make_model
from tests.support.results import AUDIT, E0S, OPEN

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
DTYPES = [torch.float64, torch.float32]
ALL = list(NAMES)


def cell(shear: float) -> Atoms:
    """A small triclinic crystal whose atoms see their own images."""
    atoms = bulk("C", "diamond", a=3.7)
    atoms.numbers[1] = 8
    atoms.set_cell(atoms.cell.array + shear * np.eye(3)[[1, 2, 0]], scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def systems() -> list[Atoms]:
    """Molecules and crystals of elements that the tiny models know."""
    molecules = [molecule("CH3OH"), molecule("H2O")]
    for i, atoms in enumerate(molecules):
        atoms.rattle(0.05, seed=i)
        atoms.positions += 20.0  # away from the origin, as files are
    return [*molecules, cell(0.2), cell(-0.3)]


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file whose E0s are those of a total energy."""
    model = make_model()
    set_e0s(model, {"C": -1030.0, "H": -13.6, "O": -2040.0})
    path = tmp_path_factory.mktemp("merged") / "m.model"
    torch.save(model, path)
    return path


def written(model: nn.Module, folder: Path, names: list[str]) -> dict[str, Path]:
    files = {name: folder / f"x{BY_NAME[name].suffix}" for name in names}
    for name, path in files.items():
        write_format(model, path, BY_NAME[name])
    return files


@pytest.mark.long
@pytest.mark.parametrize("dtype", DTYPES[: counts.of(1, 2)], ids=name_of)
def test_every_engine_agrees(merged: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    files = written(plain(merged, None, dtype), tmp_path, ALL)
    proof = Proof(merged, systems(), dtype, steps=50)
    rows = {row["engine"]: row for row in verify(files, proof, processes=2)}
    assert list(rows) == ALL
    energy, force = BOUNDS[dtype]
    rounding = 2 * torch.finfo(dtype).eps * 2040
    for name, row in rows.items():
        assert row["verdict"] == "passed", row
        assert row["structures"] == 4
        assert row["energy"] <= energy + rounding and row["forces"] <= force
        assert (row["stress"] is None) == (name == "openmm")
        assert row["stress"] is None or row["stress"] <= force
        assert np.isfinite(row["drift"])


def test_the_comparison_is_not_empty(merged: Path) -> None:
    """Forces and stresses are there to differ, and periodic images count."""
    engine, atoms = driver_of("ase")(merged, torch.float64), choose(systems())[0]
    assert atoms.pbc.all()
    found = engine(atoms)
    assert np.abs(found.forces).max() > 1e-2 and np.abs(found.stress).max() > 1e-3
    alone = atoms.copy()
    alone.pbc = False
    assert abs(engine(alone).energy - found.energy) > 1e-2


def other_readouts(merged: Path) -> nn.Module:
    """What another head is."""
    model = plain(merged, None, None)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "readouts" in name:
                parameter += 0.1
    return model


def without_e0s(merged: Path) -> nn.Module:
    model = plain(merged, None, None)
    set_e0s(model, dict.fromkeys(["H", "C", "O"], 0.0))
    return model


def in_float32(merged: Path) -> nn.Module:
    return plain(merged, None, torch.float32)


@pytest.mark.long
@pytest.mark.parametrize("broken", [without_e0s, in_float32, other_readouts][: counts.of(2, 3)])
def test_a_broken_export_is_caught_in_every_engine(
    merged: Path, tmp_path: Path, broken: object
) -> None:
    files = written(broken(merged), tmp_path, ALL)
    for row in verify(files, Proof(merged, systems()[1:2], torch.float64, steps=50)):
        assert row["verdict"] == "failed", row
        if broken is without_e0s:
            assert row["why"].startswith("energy over")
        if broken is in_float32:
            assert row["why"] == "the file holds float32, not float64"


def test_the_chosen_head_of_several(tmp_path: Path) -> None:
    model = make_model(replace(BASE, name="h", heads=("pbe", "pbe0")))
    torch.save(model, tmp_path / "m.model")
    structures = [molecule("CH3OH")]
    write_structures(tmp_path / "s.xyz", structures)
    with pytest.raises(UserError, match="several heads, choose one of: pbe, pbe0"):
        export(tmp_path / "m.model")
    settings = ExportSettings(
        ("ase", "lammps"), head="pbe", check=True, structures_file=tmp_path / "s.xyz"
    )
    found = export(tmp_path / "m.model", settings)
    assert found["card"]["head"] == "pbe"
    assert {row["verdict"] for row in found["verified"]} == {"passed"}
    files = {
        "ase": Path(found["folder"], "m.model"),
        "lammps": Path(found["folder"], "m.model-lammps.pt"),
    }
    for row in verify(files, Proof(tmp_path / "m.model", structures, torch.float64, "pbe0")):
        assert row["verdict"] == "failed"


ONE_HEAD = [c for c in CASES if len(c.heads) == 1]


@pytest.mark.long
@pytest.mark.parametrize("case", ONE_HEAD[: counts.of(4, len(ONE_HEAD))], ids=lambda c: c.name)
def test_torchscript_of_every_architecture(case: object, tmp_path: Path) -> None:
    """Where MACE can write it; what it cannot, it refuses in a line."""
    torch.save(make_model(case), tmp_path / "m.model")
    model = plain(tmp_path / "m.model", None, None)
    try:
        files = written(model, tmp_path, ["lammps"])
    except UserError as error:
        assert case.name in ("nonlinear",), error
        return
    atoms = cell(0.1)
    truth = driver_of("ase")(tmp_path / "m.model", case.dtype)(atoms)
    found = Lammps(files["lammps"], case.dtype).in_torch(atoms)
    assert np.abs(found.forces - truth.forces).max() <= BOUNDS[case.dtype][1]
    assert np.abs(truth.forces).max() > 1e-4


def test_what_is_not_installed_is_not_passed(
    merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = written(plain(merged, None, None), tmp_path, ["ase", "openmm"])
    absent = replace(BY_NAME["openmm"], modules=("no_such_module",))
    monkeypatch.setitem(BY_NAME, "openmm", absent)
    ase_row, row = verify(files, Proof(merged, systems()[1:2], torch.float64))
    assert ase_row["verdict"] == "passed"
    assert (row["verdict"], row["why"]) == ("not checked", "no_such_module is not installed")
    assert "energy" not in row


def test_slabs(tmp_path: Path) -> None:
    """Engines that are periodic in all directions or in none say so."""
    torch.save(make_model(replace(BASE, name="cu", elements=(1, 29))), tmp_path / "m.model")
    slab = fcc111("Cu", (2, 2, 2), vacuum=4.0)
    slab.rattle(0.05)
    names = ["ase", "torch-sim", "openmm", "lammps"]
    files = written(plain(tmp_path / "m.model", None, None), tmp_path, names)
    rows = {
        r["engine"]: r for r in verify(files, Proof(tmp_path / "m.model", [slab], torch.float64))
    }
    assert rows["lammps"]["verdict"] == "passed", rows["lammps"]
    for name in ("torch-sim", "openmm"):
        assert rows[name]["verdict"] == "not checked" and "slab" in rows[name]["why"]


def test_runs_move_the_atoms_as_ase_does(merged: Path, tmp_path: Path) -> None:
    """Time, masses and velocities: total energies along the run, not only at its start."""
    from lora.export.verify import warm

    files = written(plain(merged, None, None), tmp_path, ALL)
    atoms = warm(systems()[0])
    runs = {
        n: np.array(driver_of(n)(p, torch.float64).run(atoms, 50, 2.0)) for n, p in files.items()
    }
    assert np.ptp(runs["ase"]) > 1e-4  # the step is long enough to see
    for name in set(ALL) - {"ase"}:
        assert np.abs(runs[name] - runs["ase"]).max() < 1e-5


def sweep_of(folder: Path, model: nn.Module, base: str, dtype: str = "float64") -> Path:
    """What a sweep's results say about one point."""
    results, point = folder / "out", "lora_r2_a1_s3"
    (results / "merge" / point).mkdir(parents=True)
    torch.save(model, results / "merge" / point / f"{point}.model")
    print_of = {
        "dtype": dtype,
        "fingerprint": fingerprint(model),
        "fine_tuned_elements": ["H", "O"],
    }
    write_sealed(results / "merge" / point / "merge.json", print_of)
    config = {"foundation": {"model": base}, "data": {"file": "dft.xyz"}}
    config["results"] = str(results)
    Sweep.from_config(Config.model_validate(config)).save(Files())
    write_sealed(results / "report/best.json", {"point": point})
    trained = {
        "settings": {"method": "lora", "rank": 2},
        "base_fingerprint": "b",
        "data_digest": "d",
    }
    write_sealed(results / "train" / point / "train.json", trained)
    write_structures(results / "data/valid.xyz", systems()[:2])
    return results


def test_card(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    results = sweep_of(tmp_path, make_model(), "medium_off")
    settings = ExportSettings(("ase",), "float32", data_licence="CC BY 4.0")
    found = export(results, settings, Run(1, Receipt(tmp_path / "r.json")))
    card = read_json(results / "export/lora_r2_a1_s3/card.json")
    assert card == found["card"] and read_json(tmp_path / "r.json")["card"] == card
    assert card["dtype"] == "float32" and card["layout"] == "e3nn" and card["head"] == "Default"
    assert card["settings"] == {"method": "lora", "rank": 2}
    assert card["base"]["fingerprint"] == "b" and card["data"]["digest"] == "d"
    assert card["data"]["licence"] == "CC BY 4.0"
    assert "no commercial use" in card["base"]["licence"] and "2312.15211" in card["base"]["cite"]
    said = " | ".join(card["warnings"])
    assert "never fine-tuned: C N" in said and "it holds for this model, too" in said
    assert all(warning in caplog.text for warning in card["warnings"])
    assert list(card["files"]) == ["lora_r2_a1_s3.model"]
    saved = torch.load(results / "export/lora_r2_a1_s3/lora_r2_a1_s3.model", weights_only=False)
    assert next(saved.parameters()).dtype == torch.float32
    assert not [k for k in vars(saved) if "fingerprint" in k]
    structures = export(
        results, ExportSettings(("ase",), structures_file=results / "data/valid.xyz")
    )
    assert any("has C, never fine-tuned" in x for x in structures["card"]["warnings"])


def test_bounds_of_force_errors_travel_with_the_export(tmp_path: Path) -> None:
    point, model = "lora_r2_a1_s3", make_model()
    results = sweep_of(tmp_path, model, "base.model")
    folder, made = results / "export" / point, Layout(results).calibration(point)
    calibration = calibrated(model)
    calibration.write(made)
    for dtype in ("float64", "float32"):
        card = export(results, ExportSettings(("ase",), dtype))["card"]
        assert list(card["files"]) == [f"{point}.model", f"{point}.trust.json"]
        assert card["trust"] == {"file": f"{point}.trust.json"} | calibration.trial.to_dict()
        files = folder / f"{point}.model", folder / f"{point}.trust.json"
        assert card["files"][files[1].name]["sha256"] == sha256(files[1])
        assert files[1].name in read_seal(folder / "card.json")["files"]
        atoms = systems()[0]
        code = WATCHED.format(model=files[0], trust=files[1])  # of the card's page
        exec(compile(code, "card", "exec"), {"atoms": atoms})
        assert atoms.calc.results["forces_bound"].shape == (len(atoms),)
        assert atoms.calc.results["forces_bound"].min() > 0
    calibrated(make_model(replace(BASE, seed=1))).write(made)  # of another training
    card = export(results, ExportSettings(("ase",)))["card"]
    assert list(card["files"]) == [f"{point}.model"] and "trust" not in card
    assert any("are of another training, and left out" in x for x in card["warnings"])
    assert not (folder / f"{point}.trust.json").exists()


def calibrated(model: nn.Module) -> Calibration:
    """Bounds of a model's force errors, calibrated on nothing."""
    rigidity = Rigidity.of(features(model, graphs(systems(), model)))
    return Calibration("p", fingerprint(model), Trial(Bound(0.9, 2.0, 3.0, 20), {}), rigidity)


def test_the_card_says_where_e0s_are_from(tmp_path: Path) -> None:
    results = sweep_of(tmp_path, make_model(), "base.model")
    card = export(results, ExportSettings(("ase",)))["card"]
    assert card["new_E0s"] == {}
    write_sealed(results / "e0s/e0s.json", E0S)
    card = export(results, ExportSettings(("ase",)))["card"]
    told = ("method", "rank", "n_elements", "sources", "prior", "warnings")
    assert card["new_E0s"] == {k: E0S[k] for k in told}
    assert card["warnings"].count(OPEN) == 1


def test_what_is_not_fine_tuned_is_of_another_level_of_theory() -> None:
    card = {"elements": ["H", "C", "N", "O"], "dtype": "float64", "E0s": {"H": -1.0}}
    card["base"] = {"licence": "MIT"}

    def said(tuned: list[str] | None, **more: object) -> str:
        return " | ".join(warnings_of(card | {"fine_tuned_elements": tuned} | more))

    assert said(None) == ""
    assert said(["H", "O"]).startswith("never fine-tuned: C N; their energies are of another")
    assert said(["H", "C", "N", "O"]) == ""
    foundation = said([], new_E0s=E0S)  # the point whose E0s alone are new
    assert foundation.startswith("nothing was fine-tuned, and without new E0s are: C N; their")
    assert "than those of H O" in foundation


def test_the_card_names_what_was_accepted_in_the_data(tmp_path: Path) -> None:
    model = make_model()
    results = sweep_of(tmp_path, model, "my.model")
    at = ("lora_r2_a1_s3", Layout(results), Licences())
    assert make_card(model, *at)["accepted"] == []  # results without an audit
    write_sealed(Layout(results).receipt("audit"), AUDIT)
    card = make_card(model, *at)
    assert card["accepted"] == ["of other sign"]
    assert "accepted in the data: of other sign" in card["warnings"]
    assert not any("frame 7" in x for x in card["warnings"])


def test_warnings_of_dtypes(tmp_path: Path) -> None:
    model = make_model()
    set_e0s(model, {"O": -2040.0})
    results = sweep_of(tmp_path, model, "my.model", dtype="float32")
    at = ("lora_r2_a1_s3", Layout(results), Licences())
    said = make_card(model, *at)["warnings"]
    assert any("merged in float32" in x for x in said) and any("is not known" in x for x in said)
    said = make_card(model.float(), *at)["warnings"]
    assert any("rounded to about 0.2 meV/atom" in x for x in said)
    assert not any("merged in float32" in x for x in said)


def test_the_licence_is_that_of_the_step_foundation(tmp_path: Path) -> None:
    """It was told by the content of the file, or given; the name of the file may be any."""
    results = sweep_of(tmp_path, make_model(), "my.model")
    at = ("lora_r2_a1_s3", Layout(results), Licences())
    assert make_card(make_model(), *at)["base"]["licence"] == "not known"
    said = {"licence": "CC0", "paper": "a paper", "sha256": "0", "repaired": ["no heads"]}
    write_sealed(results / "foundation/foundation.json", said)
    card = make_card(make_model(), *at)
    assert card["base"]["licence"] == "CC0" and "a paper" in card["cite"]
    assert any("the file of the base was mended: no heads" in x for x in card["warnings"])


def test_mistakes(tmp_path: Path, merged: Path) -> None:
    with pytest.raises(UserError, match="has no report/best.json yet"):
        export(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        export(tmp_path / "none.model")
    with pytest.raises(UserError, match="gromacs is not an engine"):
        export(merged, ExportSettings(("gromacs",)))
    with pytest.raises(UserError, match="needs --structures_file"):
        export(merged, ExportSettings(check=True, out=tmp_path))
    write_structures(tmp_path / "s.xyz", [Atoms("H")])
    with pytest.raises(UserError, match="only free atoms"):
        export(
            merged,
            ExportSettings(check=True, out=tmp_path, structures_file=tmp_path / "s.xyz"),
        )


def test_a_disagreement_is_an_error_and_leaves_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = sweep_of(tmp_path, make_model(), "my.model")

    def broken(model: nn.Module) -> nn.Module:
        set_e0s(model, {"O": 0.0})
        return model

    monkeypatch.setattr("lora.export.formats.standard", broken)
    with pytest.raises(UserError, match="ase disagrees with the merged model"):
        export(results, ExportSettings(("ase",), check=True), Run(1, Receipt(tmp_path / "r.json")))
    rows = read_json(results / "export/lora_r2_a1_s3/verify.json")["verified"]
    assert rows[0]["verdict"] == "failed" and not (tmp_path / "r.json").exists()


def test_what_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """MACE converts only ScaleShiftMACE to cuEquivariance."""
    torch.save(make_model(replace(BASE, name="m", cls="MACE")), tmp_path / "m.model")
    write_structures(tmp_path / "s.xyz", systems()[1:2])
    settings = ExportSettings(
        ("lammps-mliap", "ase"), steps=50, check=True, structures_file=tmp_path / "s.xyz"
    )
    found = export(tmp_path / "m.model", settings)
    assert [(r["engine"], r["verdict"]) for r in found["verified"]] == [
        ("ase", "passed"),
        ("lammps-mliap", "not written"),
    ]
    assert "MACE converts ScaleShiftMACE only" in found["verified"][1]["why"]
    assert list(found["card"]["files"]) == ["m.model"]


def test_find(tmp_path: Path) -> None:
    results = sweep_of(tmp_path, make_model(), "my.model")
    point = "lora_r2_a1_s3"
    model_file = results / "merge" / point / f"{point}.model"
    assert find(results, None) == (model_file, point, Layout(results))
    assert find(model_file, None)[1:] == (point, Layout(results.resolve()))
    torch.save(make_model(), tmp_path / "alone.model")
    assert find(tmp_path / "alone.model", None) == (tmp_path / "alone.model", "alone", None)


def test_every_snippet_of_the_page_on_simulations_runs(
    merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the end of a sweep to MD in each engine."""
    page = "docs/simulation.md"
    snippets = fenced(page, "python")
    assert len(snippets) == 6
    names = set(re.findall(r"results/export/(\S+?)/", (ROOT / page).read_text()))
    assert len(names) == 1
    point = names.pop()
    folder = tmp_path / "results/export" / point
    model = plain(merged, None, None)
    for row in (BY_NAME["ase"], BY_NAME["lammps"]):
        write_format(model, folder / f"{point}{row.suffix}", row)
    calibrated(model).write(folder / f"{point}.trust.json")
    write_structures(tmp_path / "start.xyz", [molecule("CH3OH")])
    monkeypatch.chdir(tmp_path)
    for snippet in snippets:
        exec(compile(snippet, page, "exec"), {})


def test_a_model_of_charges_goes_to_engines_that_know_them(tmp_path: Path) -> None:
    torch.save(make_model(replace(BASE, charged=True)), tmp_path / "m.model")
    write_structures(tmp_path / "s.xyz", systems()[:1])
    settings = ExportSettings(
        check=True, structures_file=tmp_path / "s.xyz", out=tmp_path / "out", engines=DEFAULT
    )
    found = export(tmp_path / "m.model", settings)
    assert {row["engine"]: row["verdict"] for row in found["verified"]} == {
        "ase": "passed",
        **dict.fromkeys(("torch-sim", "openmm", "lammps"), "not written"),
    }
    assert all("total_spin and total_charge" in row["why"] for row in found["verified"][1:])
    assert any('atoms.info["charge"]' in line for line in found["card"]["warnings"])


def test_a_cell_of_one_atom_is_no_free_atom() -> None:
    """It is repeated and stirred, so that engines have neighbours, forces and a run to compare."""
    cell = Atoms("Cu", cell=[[0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0]], pbc=True)
    chain = Atoms("Cu", cell=[9, 9, 2.5], pbc=[False, False, True])
    found = choose([Atoms("Cu"), cell, chain])
    assert [len(atoms) for atoms in found] == [8, 2]
    assert found[0].get_volume() == pytest.approx(8 * cell.get_volume())
    ideal = cell.repeat(2).get_all_distances(mic=True)
    assert 0.01 < np.abs(found[0].get_all_distances(mic=True) - ideal).max() < 0.5
