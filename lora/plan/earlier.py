"""What an earlier sweep has left and a config names: an adapter, and where its records lie."""

from pathlib import Path

from lora.plan.layout import Layout

TENSORS, CARD = "adapter.safetensors", "adapter.json"  # the files of a saved adapter
FOLDER = "adapter"  # its folder, in that of its point
MADE = ("foundation", "train", "truncate", "merge", "export")  # folders of models and adapters
DEPTH = 5  # folders from a results folder down to a file of an adapter


def adapter_at(path: str | Path) -> Path | None:
    """Return the folder of a saved adapter; None where there is none.

    Args:
        path: The folder, that of its point, or one of its files.
    """
    path = Path(path)
    folders = (path.parent,) if path.name in (TENSORS, CARD) else (path, path / FOLDER)
    try:
        return next((x for x in folders if (x / CARD).is_file()), None)
    except (OSError, ValueError):  # a name that no file can have
        return None


def sweep_of(path: str | Path) -> Layout | None:
    """Return the results folder that a file lies in; None outside of one.

    Args:
        path: The file, or a folder.
    """
    above = [*Path(path).resolve().parents][:DEPTH]
    return next((layout for layout in map(Layout, above) if layout.plan.is_file()), None)


def made_in(path: Path, results: Path) -> bool:
    """Return True for a file that a sweep makes in its results folder.

    Args:
        path: The file, or a folder.
        results: The results folder, resolved.
    """
    path = path.resolve()
    inside = path.relative_to(results).parts if path.is_relative_to(results) else ()
    return inside[:1] in [(x,) for x in MADE]


def called(model: str | Path) -> Path:
    """Return what a foundation model is called by: of an adapter the folder of its point.

    Args:
        model: `foundation.model` of a config.
    """
    path = Path(model)
    while path.name in (TENSORS, CARD, FOLDER) and path.parent.name:
        path = path.parent
    return path
