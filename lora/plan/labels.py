"""A look at the labels of the data files, before anything starts.

The names of the labels and of the group stand in the comment line of each frame of an extended
xyz file.  A label may be missing in some frames; one that every frame lacks is a wrong name.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lora.catalogue.config_types import names_free_atom
from lora.errors import UserError
from lora.files.xyz import Frame, is_xyz, scan
from lora.plan.config import Config
from lora.plan.config_data import LABELS
from lora.plan.crosscheck import data_files, is_file
from lora.plan.messages import Key, dotted
from lora.plan.words import SHOWN, did_you_mean, listed

NOT_LABELS = {"Properties", "Lattice", "pbc", "species", "pos", "Z"}
ERRORS = ("energy", "forces", "stress", "virials")  # labels that a model can be measured on
COLUMNS = ("forces",)  # labels that are columns of the atoms


class Seen(NamedTuple):
    """The names in a file.

    Attributes:
        first: The first frame that is no free atom, else the first one.
        values: The keys of the comment lines.
        columns: The columns of the atoms.
    """

    first: Frame
    values: set[str]
    columns: set[str]


def check_data_keys(config: Config, *, folder: Path = Path()) -> list[str]:
    """Return what is wrong with the names of labels, one line for each.

    Files that are not extended xyz are passed over; the steps that read them say what they lack.

    Args:
        config: The config, checked.
        folder: The folder in which paths start.
    """
    lines: list[str] = []
    for key, path in data_files(config).items():
        if key == ("replay", "file") and config.replay.labels != "file":
            continue
        try:
            lines += _of_file(config, key, path, folder)
        except UserError as error:
            lines.append(f"config: {dotted(key)}: {error}")
    return lines


def _of_file(config: Config, key: Key, path: str, folder: Path) -> Iterator[str]:
    """Yield what is wrong with the names of the labels of one file.

    Raises UserError: the file is not as it has to be.
    """
    needs, group = _needs(config, key), None
    if key == ("data", "file") and config.split.method == "group":
        group = config.split.group_key
    seen = _names(folder / path, config, needs or dict.fromkeys(ERRORS, ""), group)
    if seen is None:
        return
    if not needs and not any(_has(config, seen, x) for x in ERRORS):
        needs = {"energy": "", "forces": ""}
    for key_name in LABELS:
        name = key_name.removesuffix("_key")
        if name in needs and not _has(config, seen, name):
            present = seen.columns if name in COLUMNS else seen.values
            asked = getattr(config.data, key_name)
            yield _missing(("data", key_name), asked, path, seen, present) + needs[name]
    if group and group not in seen.values:
        yield _missing(("split", "group_key"), group, path, seen, seen.values)


def _needs(config: Config, key: Key) -> dict[str, str]:
    """Return the labels that some frame of a file has to have, and why; any one where it is {}."""
    if key == ("split", "valid_file"):
        return _chosen_by(config)
    if key != ("data", "file"):
        return {}
    return dict.fromkeys(_written(config), "") | _chosen_by(config) | _trained_on(config)


def _trained_on(config: Config) -> dict[str, str]:
    """Return the labels that the losses of the sweep cannot do without, and why each is needed."""
    needs: dict[str, str] = {}
    for name in (*config.grid.adapter, *(x for x in config.baselines if x != "foundation")):
        settings = config.train_settings(name, **_point(name))
        for term in settings.needs:
            own = getattr(config.methods, name).given()
            where = f"methods.{name}" if own.keys() & {"loss", f"{term}_weight"} else "train"
            needs.setdefault(
                term,
                f"; the loss {settings.loss} needs it; without it, set {where}.{term}_weight: 0",
            )
    return needs


def _chosen_by(config: Config) -> dict[str, str]:
    """Return the label whose error the points are compared by, and why it is needed."""
    metric = config.select.metric
    label = "forces" if "_f_" in metric else "energy"
    return {label: f"; select.metric {metric} needs it; choose by another error"}


def _point(name: str) -> dict[str, object]:
    """Return the settings of a training that a method stands for."""
    replay = name == "full_replay"
    return {"method": "full" if replay else name, "replay": replay}


def _written(config: Config) -> list[str]:
    """Return the labels that the config gives another name than the default."""
    fields = type(config.data).model_fields
    own = [x for x in LABELS if getattr(config.data, x) != fields[x].default]
    return [name.removesuffix("_key") for name in own]


def _names(path: Path, config: Config, wanted: Iterable[str], group: str | None) -> Seen | None:
    """Return the names in a file, read until all that are wanted were seen; None if it is no xyz.

    Free atoms count only where there is nothing else.

    Raises UserError: the file is not as it has to be.
    """
    if not is_xyz(path) or not is_file(path):
        return None
    seen: Seen | None = None
    try:
        for frame in scan(path):
            if seen is None or (is_free(seen.first) and not is_free(frame)):
                seen = Seen(frame, set(), set())
            if is_free(frame) and not is_free(seen.first):
                continue
            seen.values.update(frame.values)
            seen.columns.update(frame.columns)
            found = all(_has(config, seen, x) for x in wanted)
            if found and not is_free(seen.first) and (not group or group in seen.values):
                break
    except OSError:  # the step that reads the file says what is wrong with it
        return None
    return seen


def is_free(frame: Frame) -> bool:
    """Return True if a frame is a free atom.

    Args:
        frame: The frame as it stands in the file.
    """
    values = frame.values
    lone = "Lattice" not in values or names_free_atom(values.get("config_type"))
    return frame.n_atoms == 1 and lone


def _has(config: Config, seen: Seen, name: str) -> bool:
    """Return True if a label, or the one that it is computed from, is among the names."""
    names = {"stress": ("stress", "virials"), "virials": ("virials", "stress")}.get(name, (name,))
    present = seen.columns if name in COLUMNS else seen.values
    return any(getattr(config.data, f"{x}_key") in present for x in names)


def _missing(key: Key, asked: str, path: str, seen: Seen, present: set[str]) -> str:
    """Return the line that says that no frame of a file has a label."""
    names = sorted(name for name in present if name not in NOT_LABELS)
    shown = listed([name[:SHOWN] for name in names[:12]], "and") if names else "none"
    bare = "; Properties is missing, which names the columns" if seen.first.unnamed else ""
    meant = did_you_mean(asked, names)
    has = f"it has {shown}{bare}{meant}"
    return f"config: {dotted(key)}: {path}: no frame has {asked[:SHOWN]}; {has}"
