"""Read what `mace_prepare_data` writes (HDF5) and fairchem's databases (LMDB), a frame at a time.

Their labels have names of their own, so that the keys of the config do not matter:

    config_batch_0/config_0/  atomic_numbers [n]  positions [n, 3] (Å)  cell [3, 3] (Å)  pbc [3]
        weight  config_type  properties/energy (eV), forces [n, 3] (eV/Å), stress, virials, ...
        property_weights/energy, forces, ...    (the text None where there is nothing)
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from lora.data.labels import QUANTITIES, WEIGHT, Keys
from lora.errors import UserError, out_of_memory
from lora.files.stored import HDF5, shards

NONE = b"None"  # how MACE writes what is not there
DELETED, NEXT = b"deleted_ids", b"nextid"  # what an LMDB holds beside its frames


def stored(path: Path, keys: Keys) -> Iterator[Atoms]:
    """Yield the structures of a file, or of all files of a folder, in their order.

    Args:
        path: The file or folder.
        keys: The names that the labels get.

    Raises:
        UserError: A file is damaged, or holds something else.
    """
    for file in shards(path) or [path]:
        if not file.is_file():
            raise UserError(f"{file}: no such file")
        read = _hdf5 if file.suffix.lower() in HDF5 else _lmdb
        try:
            yield from read(file, keys.named())
        except UserError:
            raise
        except Exception as error:  # of h5py, lmdb, JSON, or of what a damaged frame holds
            if out_of_memory(error) or getattr(error, "errno", None):
                raise
            said = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{file}: cannot be read ({said}); write it again") from None


def _hdf5(path: Path, names: dict[str, str]) -> Iterator[Atoms]:
    """Yield the structures of a file of MACE."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:  # some parallel file systems lock nothing
        if not any(name.startswith("config_batch_") for name in file):
            raise UserError(f"{path}: is not what mace_prepare_data writes")
        for batch in _numbered(file, "config_batch_"):
            for frame in _numbered(batch, "config_"):
                yield _of_mace(frame, names)


def _numbered(group: Any, stem: str) -> Iterator[Any]:
    """Yield the members of a group in the order of their numbers, which HDF5 does not keep."""
    for i in range(len(group)):
        yield group[f"{stem}{i}"]


def _of_mace(group: Any, names: dict[str, str]) -> Atoms:
    """Return a structure from MACE's group of it."""
    plain = {x: group[x][()] for x in ("atomic_numbers", "positions", "cell", "pbc")}
    plain = {x: None if _is_none(value) else value for x, value in plain.items()}
    atoms = Atoms(plain["atomic_numbers"], plain["positions"], cell=plain["cell"], pbc=plain["pbc"])
    for name, held in group["properties"].items():
        _put(atoms, names.get(name, name), held[()])
    for name, held in group["property_weights"].items():
        there = name in QUANTITIES and not _is_none(group["properties"][name][()])
        if there and float(held[()]) != 1.0:  # MACE writes 0 for a label that is not there
            atoms.info[f"config_{name}_weight"] = float(held[()])
    if not _is_none(weight := group["weight"][()]) and float(weight) != 1.0:
        atoms.info[WEIGHT] = float(weight)
    if not _is_none(kind := group["config_type"][()]):
        atoms.info["config_type"] = kind.decode() if isinstance(kind, bytes) else str(kind)
    return atoms


def _is_none(value: Any) -> bool:
    return isinstance(value, bytes) and value == NONE


def _put(atoms: Atoms, name: str, value: Any) -> None:
    """Give a structure a value, of its atoms where there is one row for each."""
    if _is_none(value):
        return
    if isinstance(value, bytes):
        atoms.info[name] = value.decode()
    elif np.ndim(value) > 1 and len(value) == len(atoms):
        atoms.arrays[name] = np.asarray(value)
    else:
        atoms.info[name] = value


def _lmdb(path: Path, names: dict[str, str]) -> Iterator[Atoms]:
    """Yield the structures of a database of fairchem, whose rows are those of ASE as JSON."""
    import lmdb
    import orjson

    with (
        lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env,
        env.begin() as read,
    ):
        gone = set(_values(read.get(DELETED), orjson) or [])
        for number in range(1, int(_values(read.get(NEXT), orjson) or 1)):
            row = read.get(str(number).encode())
            if row is not None and number not in gone:
                yield _of_row(_arrays(_values(row, orjson)), names)


def _values(packed: bytes | None, orjson: Any) -> Any:
    """Return what a value of the database holds."""
    return None if packed is None else orjson.loads(zlib.decompress(packed))


def _arrays(value: Any) -> Any:
    """Return a value with ASE's {"__ndarray__": [shape, dtype, numbers]} as arrays."""
    if isinstance(value, dict):
        if "__ndarray__" in value:
            shape, kind, numbers = value["__ndarray__"]
            return np.asarray(numbers, dtype=kind).reshape(shape)
        return {key: _arrays(x) for key, x in value.items()}
    return value


def _of_row(row: dict[str, Any], names: dict[str, str]) -> Atoms:
    """Return a structure from ASE's row of it."""
    atoms = Atoms(row["numbers"], row["positions"], cell=row.get("cell"), pbc=row.get("pbc"))
    more = dict(row.get("data") or {})
    info = dict(more.pop("__info__", {})) | dict(row.get("key_value_pairs") or {})
    for name, value in info.items():
        atoms.info[name] = value
    for name, value in dict(more.pop("__arrays__", {})).items():
        atoms.arrays[name] = np.asarray(value)
    for name in ("energy", "forces", "stress"):
        if row.get(name) is not None and names[name] not in atoms.info.keys() | atoms.arrays.keys():
            _put(atoms, names[name], np.asarray(row[name]))
    return atoms
