"""Old keys and values of the config, which work for one release with a warning."""

from typing import Any

from lora.errors import UserErrors

UNTIL = "0.3"  # the release that refuses them
SECTIONS = {"grid": {"protocol": "replay"}, "methods": {"naive": "full", "replay": "full_replay"}}
TRAINING = {"freeze": "freeze_level"}  # in train, and in every section of methods
BASELINES = {"naive": "full", "replay": "full_replay"}
PROTOCOLS = {"naive": False, "replay": True}
MOVED = {("export", "base_licence"): ("foundation", "licence")}
Raw = dict[Any, Any]


def upgrade(raw: Raw) -> tuple[Raw, list[str]]:
    """Return a config with the present names, and a warning for each old one.

    Args:
        raw: The config as it was read; it is not changed.

    Returns:
        The config, with its keys in their order, and one line for each old name in it.

    Raises:
        UserErrors: An old and a new name stand for the same thing.
    """
    out = dict(raw)
    warnings: list[str] = []
    clashes: list[str] = []
    for name, renamed in SECTIONS.items():
        out[name] = _rename(out.get(name), name, renamed, warnings, clashes)
    for source, target in MOVED.items():
        _move(out, source, target, warnings, clashes)
    out["train"] = _rename(out.get("train"), "train", TRAINING, warnings, clashes)
    if isinstance(out["methods"], dict):
        out["methods"] = {
            key: _rename(value, f"methods.{key}", TRAINING, warnings, clashes)
            for key, value in out["methods"].items()
        }
    if isinstance(out["grid"], dict) and "protocol" in raw["grid"]:
        out["grid"]["replay"] = _values(out["grid"]["replay"], PROTOCOLS)
    baselines = out.get("baselines")
    if isinstance(baselines, list):
        for old, new in BASELINES.items():
            if old in baselines:
                warnings.append(_warning(f"baselines: {old}", new))
                if new in baselines:
                    clashes.append(_clash(f"baselines: {old}", new))
        out["baselines"] = _values(baselines, BASELINES)
    if clashes:
        raise UserErrors(clashes)
    return {k: v for k, v in out.items() if k in raw}, warnings


def old_names(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a key as it was called before, where it had another name.

    Args:
        key: The parts of a key of the present config.
    """
    moved = {new: old for old, new in MOVED.items()}
    parts = list(moved.get(key, key))
    if len(parts) > 1:
        names = {new: old for old, new in SECTIONS.get(parts[0], {}).items()}
        parts[1] = names.get(parts[1], parts[1])
    if parts and parts[0] in ("train", "methods"):
        parts = ["freeze" if i and x == "freeze_level" else x for i, x in enumerate(parts)]
    return tuple(parts)


def _rename(
    section: Any, name: str, renamed: dict[str, str], warnings: list[str], clashes: list[str]
) -> Any:
    """Return a section with new keys, and add to the warnings and clashes."""
    if not isinstance(section, dict):
        return section
    for old in renamed.keys() & section.keys():
        new = f"{name}.{renamed[old]}"
        warnings.append(_warning(f"{name}.{old}", new))
        if renamed[old] in section:
            clashes.append(_clash(f"{name}.{old}", new))
    known = [x for x in section if isinstance(x, str)]
    return {renamed.get(k, k) if k in known else k: v for k, v in section.items()}


def _move(
    out: Raw, old: tuple[str, str], new: tuple[str, str], warnings: list[str], clashes: list[str]
) -> None:
    """Move a value of one section to another, and add to the warnings and clashes."""
    source, target = out.get(old[0]), out.get(new[0])
    if not (isinstance(source, dict) and old[1] in source and isinstance(target, dict)):
        return
    warnings.append(_warning(".".join(old), ".".join(new)))
    if target.get(new[1]) is not None:
        clashes.append(_clash(".".join(old), ".".join(new)))
    out[old[0]] = {k: v for k, v in source.items() if k != old[1]}
    out[new[0]] = {**target, new[1]: source[old[1]]}


def _values(value: Any, renamed: dict[str, Any]) -> Any:
    """Return the items of a list under their new names."""
    if isinstance(value, list):
        return [renamed.get(x, x) if isinstance(x, str) else x for x in value]
    return renamed.get(value, value) if isinstance(value, str) else value


def _warning(old: str, new: str) -> str:
    """Return the warning for an old name."""
    more = " with the values false and true" if new == "grid.replay" else ""
    return f"config: {old} is now {new}{more}: the old name works until {UNTIL}"


def _clash(old: str, new: str) -> str:
    """Return the error for an old name beside a new one."""
    return f"config: {old} is the old name of {new}, and both are given; remove the old one"
