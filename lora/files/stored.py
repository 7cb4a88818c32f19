"""The names of files in which MACE and fairchem keep large data; `lora.data.stored` reads them."""

from pathlib import Path

HDF5, LMDB = (".h5", ".hdf5"), (".lmdb", ".aselmdb")


def is_stored(path: Path) -> bool:
    """Return True for MACE's HDF5 files, ASE's LMDB files, and a folder of either.

    Args:
        path: The file or folder.
    """
    return path.suffix.lower() in HDF5 + LMDB or bool(shards(path))


def shards(path: Path) -> list[Path]:
    """Return the files of a folder that `mace_prepare_data` or fairchem filled, in their order.

    Args:
        path: The folder; a file has none.
    """
    try:
        inside = list(path.iterdir()) if path.is_dir() else []
    except (OSError, ValueError):  # a name that is too long, or that no file can have
        return []
    found = [x for x in inside if x.suffix.lower() in HDF5 + LMDB and x.is_file()]
    return sorted(found, key=lambda x: (len(x.name), x.name))  # train_10.h5 after train_9.h5
