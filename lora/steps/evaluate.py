"""Step `evaluate`: measure the errors of merged models on the validation and test sets.

evaluate/{point}.json, {point}.parquet
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms
from torch import nn

from lora.catalogue.columns import ENERGY, FORCE
from lora.data.held import only, some
from lora.data.labels import has_label
from lora.data.parity import errors, parity
from lora.data.structures import elements_of, is_isolated_atom, load_structures
from lora.errors import UserError
from lora.files.sealed import write_bytes, write_sealed
from lora.mace.device import check_device, set_threads
from lora.mace.door import Untyped
from lora.mace.elements import check_elements, elements, trim_elements
from lora.mace.fast.contraction import fold
from lora.mace.fast.convolution import fuse
from lora.mace.foundation import fingerprint, load_foundation
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from lora.plan.commands import Run

log = logging.getLogger(__name__)
Sets = dict[str, Sequence[Atoms]]  # the structures of each set, by its name


def evaluate(
    models: dict[Path, Path],
    valid_file: str | Path,
    test_file: str | Path,
    batch_size: int = 32,
    device: str = "cpu",
    run: Run = Run(),
) -> list[dict[str, Any]]:
    """Evaluate merged models; write errors to a JSON file and parity data to a parquet beside it.

    The sets are "valid", on which points are chosen, and each `test_set` of test.xyz.  Each
    has its errors as a whole and by config_type: RMSE and MAE of the energy (meV/atom), of the
    force components (meV/Å) and of the stress (meV/Å^3), over the structures that have the label
    and give it a weight above 0.  Of a label that none has there is no error.

    Args:
        models: {JSON file to write: .model file}.
        valid_file: valid.xyz of the split.
        test_file: test.xyz of the split.
        batch_size: The number of structures a batch.
        device: The device: cpu, cuda or cuda:N.
        run: Threads, and the receipt for the contents of all JSON files.

    Returns:
        The content of each JSON file.

    Raises:
        UserError: The sets are not those of a split, a model does not know an element of them, or
            its predictions are not finite.
    """
    set_threads(run.threads)
    check_device(device)
    sets = read_sets(valid_file, test_file)
    everything = [atoms for members in sets.values() for atoms in members]
    made: dict[tuple[Any, ...], dict[str, Sequence[Any]]] = {}  # graphs by what they depend on
    results = []
    for out, model_file in models.items():
        model: Untyped = load_foundation(model_file).to(device)
        check_elements(model, everything, test_file)
        digest = fingerprint(model)
        model = trim_elements(model, elements_of(everything))
        key = (float(model.r_max), model.r_max.dtype, *elements(model), *model.heads)
        if key not in made:
            made[key] = {name: graphs(members, model) for name, members in sets.items()}
        fuse(model)
        fold(model)
        result, table = _evaluate(model, sets, made[key], batch_size)
        if not np.isfinite(table["predicted"]).all():
            raise UserError(
                f"{model_file} predicts energies or forces that are not finite. Train the point "
                "again with a lower learning rate."
            )
        result = {"point": Path(out).stem, "fingerprint": digest} | result
        beside = Path(out).with_suffix(".parquet")
        write_bytes(beside, table.to_parquet(index=False))
        write_sealed(out, result, [beside])
        results.append(result)
    if run.receipt:
        run.receipt.write_points(results)
    return results


def read_sets(valid_file: str | Path, test_file: str | Path) -> Sets:
    """Return the structures of each set by its name, free atoms left out.

    Args:
        valid_file: valid.xyz of the split.
        test_file: test.xyz of the split.

    Raises:
        UserError: They are not those of a split.
    """
    tests, members = load_structures(test_file), dict[str, list[int]]()
    for i, atoms in enumerate(tests):
        if "test_set" not in atoms.info:
            raise UserError(
                f'{test_file} frame {i} lacks the "test_set" field. Pass the test.xyz that '
                '"mace-lora split" wrote.'
            )
        members.setdefault(str(atoms.info["test_set"]), []).append(i)  # ASE reads 600 as a number
    sets: Sets = {"valid": load_structures(valid_file)}
    sets |= {name: some(tests, own) for name, own in members.items()}
    sets = {k: only(v, lambda atoms: not is_isolated_atom(atoms)) for k, v in sets.items()}
    return {k: v for k, v in sets.items() if v}


def _evaluate(
    model: nn.Module,
    sets: Sets,
    data: dict[str, Sequence[Any]],
    batch_size: int,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the errors of one model on each set, and its parity data."""
    result: dict[str, Any] = {"sets": {}}
    tables, seconds = [], 0.0
    for name, members in sets.items():
        stress = any(has_label(atoms, "stress") for atoms in members)
        predicted = predict(model, data[name], batch_size, stress)
        seconds += float(predicted["seconds"])
        table = parity(members, predicted, name)
        tables.append(table)
        by_type = {str(k): errors(part) for k, part in table.groupby("config_type")}
        result["sets"][name] = {
            "n_structures": len(members),
            **errors(table),
            "config_types": by_type,
        }
        found = result["sets"][name]
        shown = [f"{found[x]:8.2f}" if x in found else "       -" for x in (ENERGY, FORCE)]
        log.info(
            "%-12s %5d structures: E %s meV/atom, F %s meV/Å (RMSE)", name, len(members), *shown
        )
    n_atoms = sum(len(atoms) for members in sets.values() for atoms in members)
    result |= {"seconds": round(seconds, 3), "atoms_per_second": round(n_atoms / seconds, 1)}
    return result, pd.concat(tables)
