"""Step `trust`: calibrate bounds of the chosen model's force errors, and see whether they hold.

trust/trust.json, {point}.json
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms

from lora.catalogue.columns import VALID
from lora.data.calibration import Calibration, Trial
from lora.data.conformal import least
from lora.data.held import only, some
from lora.data.rigidity import Rigidity
from lora.data.spread import components
from lora.data.structures import elements_of, is_isolated_atom, load_structures
from lora.mace.device import set_threads
from lora.mace.door import Untyped
from lora.mace.elements import trim_elements
from lora.mace.fast.contraction import fold
from lora.mace.fast.convolution import fuse
from lora.mace.foundation import fingerprint, load_foundation
from lora.mace.graphs import graphs
from lora.mace.last_layer import features
from lora.plan.commands import Run
from lora.plan.layout import Layout
from lora.selection.results import intact
from lora.steps.evaluate import Sets, read_sets

log = logging.getLogger(__name__)
FITTED = 5000  # training structures whose atoms the scores are made of; more tell nothing new


@dataclass(frozen=True)
class TrustFiles:
    """The files of the step.

    Attributes:
        model: The merged model.
        parity: Its parity data.
        train: train.xyz of the split.
        valid: valid.xyz of the split, on which bounds are calibrated.
        test: test.xyz of the split, on which they are measured.
        out: The calibration to write.
        committee: The parity data of the members of a committee; fewer than two are none.
    """

    model: Path
    parity: Path
    train: Path
    valid: Path
    test: Path
    out: Path
    committee: Sequence[Path] = ()

    @classmethod
    def of(cls, layout: Layout, point: str, members: Sequence[str]) -> "TrustFiles":
        """Return those of a point of a sweep.

        Args:
            layout: The results folder.
            point: The point.
            members: The points of a committee.
        """
        return cls(
            layout.model(point),
            layout.parity(point),
            train=layout.split("train"),
            valid=layout.split("valid"),
            test=layout.split("test"),
            out=layout.calibration(point),
            committee=[layout.parity(x) for x in members],
        )


def trust(
    point: str, files: TrustFiles, coverage: float, batch_size: int = 32, run: Run = Run()
) -> dict[str, Any]:
    """Calibrate bounds of force errors from the last layer of a model, and from a committee.

    Args:
        point: The name of the model.
        files: The files to read and to write.
        coverage: The share of force components, and of structures, that the bounds are to hold for.
        batch_size: The number of structures a batch.
        run: Threads, and the receipt for what is returned.

    Returns:
        point, coverage, why (there are no bounds; "" where there are) and sources: {features or
        committee: what `Trial.to_dict` returns}, {} where there are no bounds.

    Raises:
        UserError: A file is missing or damaged.
    """
    set_threads(run.threads)
    found: dict[str, Any] = {"point": point, "coverage": coverage, "why": "", "sources": {}}
    sets = read_sets(files.valid, files.test)
    model: Untyped = load_foundation(files.model)
    digest = fingerprint(model)
    files.out.unlink(missing_ok=True)
    written: list[Path] = []
    try:
        rigidity, scores = _scores(model, _train(files.train), sets, batch_size)
    except np.linalg.LinAlgError:  # which must not cost the sweep its report
        found["why"] = "what the last layer reads of the training set is not finite"
    else:
        table = _of_model(_forces(pd.read_parquet(intact(files.parity))), scores)
        found["why"] = _too_few(table, coverage)
    if not found["why"]:
        trials = {"features": Trial.of(table, coverage)}
        if len(files.committee) > 1:
            spread = _of_committee(pd.read_parquet(intact(x)) for x in files.committee)
            trials["committee"] = Trial.of(spread, coverage)
        found["sources"] = {source: trial.to_dict() for source, trial in trials.items()}
        Calibration(point, digest, trials["features"], rigidity).write(files.out)
        written = [files.out]
    log.info("%s: %s", point, found["why"] or found["sources"])
    if run.receipt:
        run.receipt.write(found, written)
    return found


def _too_few(table: pd.DataFrame, coverage: float) -> str:
    """Say why a validation set is too small for bounds; "" where it is not."""
    n = table.loc[table["test_set"] == VALID, "structure"].nunique()
    if n >= least(coverage):
        return ""
    return (
        f"the validation set has {n} structures with forces, and bounds that hold for "
        f"{coverage:.0%} take {least(coverage)}"
    )


def _train(path: Path) -> Sequence[Atoms]:
    """Return structures of the training set without free atoms, `FITTED` of more by chance."""
    found = only(load_structures(path), lambda atoms: not is_isolated_atom(atoms))
    if len(found) <= FITTED:
        return found
    chosen = np.random.default_rng(0).choice(len(found), size=FITTED, replace=False)
    return some(found, sorted(chosen.tolist()))


def _scores(
    model: Untyped, train: Sequence[Atoms], sets: Sets, batch_size: int
) -> tuple[Rigidity, dict[str, np.ndarray]]:
    """Return what gives scores, and those of the atoms of each set."""
    everything = [train, *sets.values()]
    model = trim_elements(model, elements_of(atoms for part in everything for atoms in part))
    fuse(model)
    fold(model)

    def of(structures: Sequence[Atoms]) -> Iterator[np.ndarray]:
        return features(model, graphs(structures, model), batch_size)

    rigidity = Rigidity.of(of(train))
    return rigidity, {
        name: np.concatenate([rigidity.scores(part) for part in of(members)])
        for name, members in sets.items()
    }


def _forces(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["quantity"] == "force"]


def _of_model(forces: pd.DataFrame, scores: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return score and error of each force component that has a label, for `Trial.of`."""
    parts = []
    for name, part in forces.groupby("test_set", sort=False):
        error = (part["predicted"] - part["reference"]).abs()
        parts.append(part.assign(error=error, score=np.repeat(scores[str(name)], 3)))
    return _labelled(pd.concat(parts))


def _of_committee(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return spread of the force and error of the mean of each component, for `Trial.of`."""
    forces = _forces(components(tables))
    spread = np.sqrt(forces["variance"].to_numpy().reshape(-1, 3).sum(axis=1))  # of each atom
    return _labelled(forces.assign(error=forces["difference"].abs(), score=np.repeat(spread, 3)))


def _labelled(forces: pd.DataFrame) -> pd.DataFrame:
    labelled = forces.dropna(subset="reference")
    return labelled[["test_set", "structure", "error", "score"]].reset_index(drop=True)
