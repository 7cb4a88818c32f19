"""The step `trust`: from a merged model and its parity data to bounds, and whether they hold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lora.data.calibration import Calibration
from lora.data.structures import FORCES, load_structures, write_structures
from lora.errors import UserError
from lora.files.sealed import Receipt, read_json, read_seal
from lora.mace.foundation import fingerprint
from lora.mace.graphs import graphs
from lora.mace.last_layer import features
from lora.plan.commands import Run
from lora.steps import trust as step
from lora.steps.evaluate import evaluate
from lora.steps.trust import TrustFiles, trust
from tests.support.models import make_model
from tests.support.trainings import teacher_data


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TrustFiles:
    """A model with errors, the sets of a split, and its evaluation."""
    folder = tmp_path_factory.mktemp("trust")
    torch.save(make_model(), folder / "p.model")
    hot = teacher_data(10, seed=3)
    for atoms in hot:  # of another theory
        atoms.arrays[FORCES] *= 3
    tests = [*teacher_data(12, seed=2), *hot]
    for i, atoms in enumerate(tests):
        atoms.info["test_set"] = "test" if i < 12 else "hot"
    sets = {"train": teacher_data(20, seed=0), "valid": teacher_data(12, seed=1), "test": tests}
    paths = {name: folder / f"{name}.xyz" for name in sets}
    for name, members in sets.items():
        write_structures(paths[name], members)
    evaluate({folder / "p.json": folder / "p.model"}, paths["valid"], paths["test"])
    return TrustFiles(
        folder / "p.model", folder / "p.parquet", **paths, out=folder / "trust/p.json"
    )


def test_bounds_of_a_model(files: TrustFiles) -> None:
    receipt = Receipt(files.out.with_name("trust.json"))
    found = trust("p", files, 0.9, run=Run(receipt=receipt))
    assert read_json(receipt.path) == found and found["why"] == ""
    assert list(read_seal(receipt.path)["files"]) == ["p.json"]
    assert list(found["sources"]) == ["features"]
    sets = found["sources"]["features"]["sets"]
    assert {name: x["n_structures"] for name, x in sets.items()} == {"test": 12, "hot": 10}
    assert sets["test"]["components"]["value"] > 0.8 > sets["hot"]["components"]["value"]
    assert not sets["hot"]["uncertainty"]
    made = Calibration.read(files.out)
    assert made.point == "p" and made.fingerprint == fingerprint(make_model())
    assert made.trial.bound.n_structures == 12


def test_scores_belong_to_the_atoms_of_the_parity_data(files: TrustFiles) -> None:
    """Bounds by hand, from the structures themselves, hold for the share that the step says."""
    found = trust("p", files, 0.9)["sources"]["features"]
    made, model = Calibration.read(files.out), make_model()
    table = pd.read_parquet(files.parity)
    tests = load_structures(files.test)
    within = {"test": [], "hot": []}
    for atoms in tests:
        (read,) = features(model, graphs([atoms], model))
        bounds = made.components(made.rigidity.scores(read))
        name = atoms.info["test_set"]
        own = table[(table["test_set"] == name) & (table["quantity"] == "force")]
        own = own[own["structure"] == len(within[name])]
        error = (own["predicted"] - own["reference"]).abs().to_numpy().reshape(-1, 3)
        assert own["reference"].to_numpy() == pytest.approx(atoms.arrays[FORCES].ravel())
        within[name].append((error <= bounds[:, None]).mean())
    for name, shares in within.items():
        assert np.mean(shares) == pytest.approx(found["sets"][name]["components"]["value"])


def test_a_committee_is_another_source(files: TrustFiles, tmp_path: Path) -> None:
    """Members are off by noise that is the larger the larger their common error is."""
    table, rng = pd.read_parquet(files.parity), np.random.default_rng(0)
    paths = [tmp_path / f"{i}.parquet" for i in range(4)]
    off = (table["predicted"] - table["reference"]).abs()
    for path in paths:
        noise = off * rng.normal(size=len(table))
        table.assign(predicted=table["predicted"] + noise).to_parquet(path)
    found = trust("p", replace(files, committee=paths), 0.9)["sources"]
    assert list(found) == ["features", "committee"]
    assert found["committee"]["sets"]["hot"]["components"]["value"] > 0.8  # it sees its errors
    assert list(trust("p", replace(files, committee=paths[:1]), 0.9)["sources"]) == ["features"]


def test_too_few_structures_are_said(files: TrustFiles, tmp_path: Path) -> None:
    files.out.parent.mkdir(exist_ok=True)
    files.out.write_text("of an earlier choice")
    found = trust("p", files, 0.95, run=Run(receipt=Receipt(tmp_path / "trust.json")))
    assert found["sources"] == {} and not files.out.exists()
    assert found["why"].startswith("the validation set has 12 structures with forces, and bounds")
    assert "95% take 19" in found["why"]
    assert read_seal(tmp_path / "trust.json")["files"] == {}


def test_a_model_that_reads_nonsense_has_no_bounds(files: TrustFiles, tmp_path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        next(model.interactions[0].parameters()).fill_(float("nan"))
    torch.save(model, tmp_path / "p.model")
    found = trust("p", replace(files, model=tmp_path / "p.model"), 0.9)
    assert found["sources"] == {} and "is not finite" in found["why"]


def test_forces_without_labels_count_for_nothing(files: TrustFiles, tmp_path: Path) -> None:
    table = pd.read_parquet(files.parity)
    unlabelled = (table["test_set"] == "valid") & (table["structure"] >= 10)
    unlabelled |= table["test_set"] == "hot"
    table["reference"] = table["reference"].mask(unlabelled)
    table.to_parquet(tmp_path / "p.parquet")
    found = trust("p", replace(files, parity=tmp_path / "p.parquet"), 0.9)["sources"]["features"]
    assert found["bound"]["n_structures"] == 10 and list(found["sets"]) == ["test"]


def test_large_training_sets_are_sampled(
    files: TrustFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(step._train(files.train)) == 20
    monkeypatch.setattr(step, "FITTED", 5)
    assert len(step._train(files.train)) == 5


def test_a_damaged_calibration_is_refused(files: TrustFiles) -> None:
    receipt = Receipt(files.out.with_name("trust.json"))
    trust("p", files, 0.9, run=Run(receipt=receipt))
    text = files.out.read_text()
    files.out.write_text(text.replace('"component": ', '"component": 1', 1))
    with pytest.raises(UserError, match="damaged or edited"):
        Calibration.read(files.out)
    with pytest.raises(UserError, match="holds no calibration; give the .trust.json"):
        Calibration.read(receipt.path)
