"""The registered model, as a colleague loads it who has MLflow and MACE and nothing of ours."""

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from mace.calculators import MACECalculator

from lora.files.sealed import read_json
from lora.selection.verdict import Verdict
from lora.steps.track import track
from lora.tracking.parity import parity_of
from lora.tracking.registry import NEEDED, example_of
from lora.tracking.store import Store, store_uri
from tests.support.results import parity
from tests.support.store import Server
from tests.support.trainings import teacher_data
from tests.tracking.test_tracking import EXP, POINTS, choose, make_results

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SHOW = "print(table.to_json()); import sys; assert not [x for x in sys.modules if x[:5] == 'lora.']"


def text_of(atoms: Atoms) -> str:
    ase.io.write(out := io.StringIO(), atoms, format="extxyz")
    return out.getvalue()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that was tracked, and start.xyz in it."""
    sweep = make_results(tmp_path_factory.mktemp("model"))
    verdicts = {
        POINTS[0]: {
            "forgetting": Verdict("forgetting", 500.0, "meV/Å", 5.12345, 3.0, "ratio"),
            "nve": Verdict("nve", 0.1, "meV/atom/ps", 0.1, 1.0, "absolute"),
        }
    }
    choose(sweep, POINTS[0], verdicts)
    parity(20.0).to_parquet(sweep.layout.parity(POINTS[0]))
    track(sweep, EXP)
    folder = sweep.layout.results.resolve().parent
    (folder / "start.xyz").write_text(text_of(teacher_data(1, seed=7)[0]))
    return folder


def client(home: Path) -> tuple:
    import mlflow

    uri = store_uri(home / "results")
    return mlflow.MlflowClient(uri, uri), read_json(home / "results/track/runs.json")


def test_it_predicts_what_ase_does_as_the_docs_say(home: Path) -> None:
    """In a process of its own, in another folder, without this library."""
    _, found = client(home)
    name = found["model"].removeprefix("models:/").removesuffix("@best")
    page = (ROOT / "docs/results.md").read_text()
    (code,) = re.findall(r"```python\n(import mlflow\n.*?)```", page, re.S)
    code = code.replace("base-on-malonaldehyde_300K", name)
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", "-c", code + SHOW]
    done = subprocess.run(command, cwd=home, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    table = json.loads(done.stdout.splitlines()[-1])

    atoms = ase.io.read(home / "start.xyz")
    file = home / f"results/merge/{POINTS[0]}/{POINTS[0]}.model"
    atoms.calc = MACECalculator(str(file), default_dtype="float64")
    assert table["energy"]["0"] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(table["forces"]["0"], atoms.get_forces(), atol=1e-9, rtol=0)
    assert np.abs(atoms.get_forces()).max() > 1e-3


def test_it_says_what_it_takes_and_needs(home: Path) -> None:
    import mlflow

    store, found = client(home)
    mlflow.set_tracking_uri(store_uri(home / "results"))
    info = mlflow.models.get_model_info(found["model"])
    assert info.signature.inputs.input_names() == ["structure"]
    assert info.signature.outputs.input_names() == ["energy", "forces"]
    (file,) = (home / "results/track/artifacts/models").rglob("requirements.txt")
    needed = [x.partition("==")[0] for x in file.read_text().split()]
    assert needed == ["mlflow", *NEEDED] and "+" not in file.read_text()
    model = mlflow.pyfunc.load_model(found["model"])
    mlflow.set_tracking_uri(None)
    first = model.predict(model.input_example)
    text = example_of(home / "results/data/valid.xyz")
    again = model.predict(pd.DataFrame({"structure": [text] * 2}))
    assert [*again["energy"]] == [first["energy"][0]] * 2
    two = text_of(teacher_data(1, seed=1)[0]) * 2
    causes = {two: "2 structures in one", "H": "0 is not extended", "": "0 structures in one"}
    for wrong, why in causes.items():
        with pytest.raises(ValueError, match=why):
            model.predict({"structure": wrong})
    with pytest.raises(ValueError, match="rows of a DataFrame"):
        model.predict({"structure": [text, text]})
    with pytest.raises(ValueError, match="does not know Au"):
        model.predict({"structure": text_of(Atoms("Au"))})
    logged = store.get_logged_model(found["logged_model"])
    assert logged.name == "base-on-data" and logged.params["base_fingerprint"] == "b" * 16
    assert str(home) not in json.dumps([logged.tags, logged.params])


def test_the_choice_can_be_read_off_the_columns(home: Path) -> None:
    store, found = client(home)
    run = store.get_run(found["runs"][POINTS[0]])
    assert run.data.metrics["check/forgetting"] == 5.123  # times the foundation model's
    assert run.data.metrics["checks_failed"] == 1 and run.data.tags["chosen"] == "True"
    assert "Check failed: forgetting 5.12 times" in run.data.tags["mlflow.note.content"]
    assert run.data.metrics["system/process_memory_megabytes"] == 700


def test_parity_is_a_table_that_mlflow_reads(home: Path) -> None:
    import mlflow

    store, found = client(home)
    mlflow.set_tracking_uri(store_uri(home / "results"))
    table = store.load_table(found["experiment_id"], "parity.json", [found["runs"][POINTS[0]]])
    mlflow.set_tracking_uri(None)
    truth = parity(20.0)
    assert len(table) == 12 and [*table.columns[:2]] == ["structure", "force_rmse"]
    one = truth[(truth["test_set"] == "valid") & (truth["structure"] == 3)]
    force = one[one["quantity"] == "force"]
    rmse = 1e3 * np.sqrt(np.mean((force["predicted"] - force["reference"]) ** 2))
    assert table.set_index("structure").loc["valid 3", "force_rmse"] == pytest.approx(
        rmse, abs=0.01
    )
    assert table["force_largest_error"].is_monotonic_decreasing
    truth["reference"] = truth["reference"].where(truth["quantity"] == "force")
    truth.to_parquet(home / "one.parquet")
    assert "energy_error" not in parity_of(home / "one.parquet").partition('"data"')[0]


@pytest.mark.parametrize("call", ["log_model_artifacts", "log_outputs", "create_model_version"])
def test_a_kill_leaves_one_model(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was not finished is made anew; files and versions are there once."""
    import mlflow

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    sweep = make_results(tmp_path)
    choose(sweep, POINTS[0])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(mlflow.MlflowClient, call, die)
        track(sweep, EXP)
    first = track(sweep, EXP)
    assert track(sweep, EXP) == first
    with Store(sweep.layout.results, None, "exp").writing() as store:
        models = store.client.search_logged_models([store.experiment_id])
        assert [x.model_id for x in models] == [first["logged_model"]]
        (version,) = store.versions_of("base-on-data")
        assert version.source == models[0].artifact_location
        best = store.client.get_model_version_by_alias("base-on-data", "best")
        assert best.version == version.version
        folders = [x.name for x in (store.artifacts / "models").iterdir()]
        assert folders == [first["logged_model"]]


def test_it_is_registered_on_a_server_too(tmp_path: Path, server: Server) -> None:
    import mlflow

    sweep = make_results(tmp_path)
    choose(sweep, POINTS[0])
    where = replace(EXP, uri=server.uri)
    found = track(sweep, where)
    assert track(sweep, where) == found
    assert re.fullmatch(r"models:/base-on-data-\w+@best", found["model"])
    mlflow.set_tracking_uri(server.uri)
    model = mlflow.pyfunc.load_model(found["model"])
    mlflow.set_tracking_uri(None)
    assert len(model.predict(model.input_example)) == 1
