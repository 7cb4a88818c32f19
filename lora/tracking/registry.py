"""Keep the chosen model as a logged model of MLflow, and name it in the registry.

A logged model is whole once it is READY: one that was begun and not finished, as after a kill, is
deleted and made anew.
"""

import io
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import pandas as pd
from ase import Atoms

from lora.files.provenance import version_of
from lora.files.sealed import digest
from lora.tracking.store import DIGEST, NOTE, POINT, SWEEP, Store

ALIAS = "best"
VERSIONS = "mlflow.modelVersions"  # tag by which a logged model names its registered versions
NEEDED = ("mace-torch", "torch", "ase", "numpy", "pandas")  # by whoever loads it
INPUT, ENERGY, FORCES = "structure", "energy", "forces"


@dataclass(frozen=True)
class Package:
    """What a logged model is made of.

    name:        that of the model, without / : . % and quotes
    point:       its point
    file:        the .model file
    loader:      the Python file that loads it, which needs nothing of this library
    example:     a structure in extended xyz
    facts:       what it was made from, {name: value}
    description: markdown
    """

    name: str
    point: str
    file: Path
    loader: Path
    example: str
    facts: dict[str, str]
    description: str

    @property
    def content(self) -> str:
        """Return the digest of what it computes."""
        return digest(self.file, self.loader)


def register(store: Store, package: Package, run_id: str) -> str:
    """Make a model the newest version of the registered one of its name; return its id.

    Args:
        store: The store, connected.
        package: The model.
        run_id: The run of its point.
    """
    versions = store.versions_of(package.name)
    model = _log_model(store, package, run_id)
    # the SQLite store does not say of which model a version is
    same = [v for v in versions if v.source == model.artifact_location]
    version = same[0] if same else _add_version(store, package, model, run_id)
    store.client.set_registered_model_alias(package.name, ALIAS, version.version)
    known = json.dumps([{"name": package.name, "version": version.version}])
    if model.tags.get(VERSIONS) != known:
        store.client.set_logged_model_tags(model.model_id, {VERSIONS: known})
    for old in versions:  # their runs are gone, or hold another model
        if old.version != version.version and old.tags.get(SWEEP) == store.sweep:
            store.client.delete_model_version(package.name, old.version)
    return str(model.model_id)


def delete_models(store: Store, run_id: str, but: str = "") -> None:
    """Delete the logged models of a run, with their files where the store is ours.

    Args:
        store: The store, connected.
        run_id: The run.
        but: The id of one that stays.
    """
    for model in _models_of(store, run_id):
        if model.model_id != but:
            store.client.delete_logged_model(model.model_id)
            if store.is_local:  # MLflow keeps their files
                shutil.rmtree(store.folder_of_model(model.model_id), ignore_errors=True)


def example_of(path: Path) -> str:
    """Return the first structure of a file in extended xyz, without labels or other knowledge.

    Args:
        path: The file.
    """
    first: Any = ase.io.read(path, index=0, format="extxyz")
    plain = Atoms(first.numbers, first.positions, cell=first.cell, pbc=first.pbc)
    ase.io.write(text := io.StringIO(), plain, format="extxyz")
    return text.getvalue()


def _models_of(store: Store, run_id: str) -> list[Any]:
    where = f"source_run_id = '{run_id}'"
    return list(store.client.search_logged_models([store.experiment_id], where))


def _log_model(store: Store, package: Package, run_id: str) -> Any:
    """Find or make the logged model of a run."""
    from mlflow.entities import LoggedModelOutput

    whole = [
        x
        for x in _models_of(store, run_id)
        if x.status == "READY" and x.tags.get(DIGEST) == package.content
    ]
    if whole:
        delete_models(store, run_id, whole[0].model_id)
        return whole[0]
    delete_models(store, run_id)
    tags = {DIGEST: package.content, POINT: package.point, SWEEP: store.sweep}
    tags[NOTE] = package.description
    model = store.client.create_logged_model(
        store.experiment_id, package.name.replace(".", "-"), run_id, tags, package.facts, "MACE"
    )
    with tempfile.TemporaryDirectory() as folder:
        _write(package, Path(folder, "model"), model.model_id, run_id)
        store.client.log_model_artifacts(model.model_id, str(Path(folder, "model")))
    store.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return store.client.finalize_logged_model(model.model_id, "READY")


def _write(package: Package, folder: Path, model_id: str, run_id: str) -> None:
    """Write the model in MLflow's format, a pyfunc from structures to energies and forces."""
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Schema

    inputs = Schema([ColSpec(DataType.string, INPUT)])
    rows = ColSpec(Array(Array(DataType.double)), FORCES)
    outputs = Schema([ColSpec(DataType.double, ENERGY), rows])
    # a local version, 2.13.0+cpu, is of the machine that trained
    known = {x: str(version_of(x) or "").partition("+")[0] for x in NEEDED}
    pinned = [f"{x}=={version}" if version else x for x, version in known.items()]
    mlflow.pyfunc.save_model(
        str(folder),
        loader_module=package.loader.stem,
        data_path=str(package.file),
        code_paths=[str(package.loader)],
        # the path in it is where the model is not: it says the place of this machine
        mlflow_model=Model(artifact_path=package.name, run_id=run_id, model_id=model_id),
        signature=ModelSignature(inputs, outputs),
        input_example=pd.DataFrame({INPUT: [package.example]}),
        pip_requirements=pinned,
        metadata=package.facts,
    )
    (folder / "README.md").write_text(package.description, encoding="utf-8")


def _add_version(store: Store, package: Package, model: Any, run_id: str) -> Any:
    """Register a logged model."""
    # MLflow looks for models:/ID in its global store, which may be another one
    return store.client.create_model_version(
        package.name,
        model.artifact_location,
        run_id,
        tags={POINT: package.point, SWEEP: store.sweep},
        description=package.description,
        model_id=model.model_id,
    )
