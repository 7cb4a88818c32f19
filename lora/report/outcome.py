"""What came of a job, in a few words for its line on the terminal, by its receipt."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lora.catalogue.columns import ENERGY, FORCE
from lora.catalogue.endings import Ending
from lora.errors import UserError
from lora.files.sealed import read_json

Content = Mapping[str, Any]


def outcome(step: str, receipt: Path) -> str:
    """Return what came of a job; "" where there is nothing short to say.

    Args:
        step: The step.
        receipt: Of the job.
    """
    if step not in _OUTCOMES:
        return ""
    try:
        return _OUTCOMES[step](read_json(receipt))
    except (UserError, LookupError, TypeError, ValueError):  # who reads it next says why
        return ""


def _foundation(found: Content) -> str:
    return f"{found['class']} of {len(found['elements'])} elements, licence {found['licence']}"


def _split(found: Content) -> str:
    return ", ".join(f"{found['counts'][x]} {x}" for x in ("train", "valid", "test"))


def _audit(found: Content) -> str:
    levels = [row["level"] for row in found["findings"]]
    words = {"warn": "warning", "accepted": "accepted", "note": "note"}
    counts = {word: levels.count(level) for level, word in words.items()}
    said = [f"{n} {x}{'s' if n > 1 and x != 'accepted' else ''}" for x, n in counts.items() if n]
    return ", ".join(said) or "nothing strange"


def _e0s(found: Content) -> str:
    after = found.get("rmse_after_mev_per_atom")
    return "" if after is None else f"energies now off by {after:.1f} meV/atom"


def _keep(found: Content) -> str:
    chosen = {name: n["chosen"] for name, n in found["kinds"].items() if n["chosen"]}
    parts = ", ".join(f"{n} {name}" for name, n in chosen.items())
    return f"{found['n_structures']} structures: {parts}"


def _train(found: Content) -> str:
    failed = [x for x, one in found.items() if one["ended_by"] == Ending.FAILED]
    said = [f"{len(failed)} failed"] if failed else []
    if whole := {x: one for x, one in found.items() if one.get("best")}:
        name = min(whole, key=lambda x: whole[x]["best"]["valid_loss"])
        one = whole[name]
        said.append(f"epoch {one['epochs']} of {one['settings']['max_num_epochs']}")
        said.append(_error(one["best"], "valid_") + _best(name, found))
    return ", ".join(said)


def _merge(found: Content) -> str:
    if not found:
        return ""
    worst = max(x for one in found.values() for x in one["max_abs_difference"].values())
    return f"proven to {worst:.0e}" if worst else "proven exact"


def _evaluate(found: Content) -> str:
    if not found:
        return ""
    of = {x: one["sets"]["test"] for x, one in found.items()}
    known = [x for x in (FORCE, ENERGY) if all(one.get(x) is not None for one in of.values())]
    if not known:
        return ""
    key = known[0]
    name = min(of, key=lambda x: of[x][key])
    return f"test {_error(of[name])}{_best(name, found)}"


def _best(name: str, of: Content) -> str:
    """Return which point has an error, where there are several."""
    return f" ({name})" if len(of) > 1 else ""


def _error(errors: Content, prefix: str = "") -> str:
    """Return the error of forces, or else of energies."""
    force, energy = (errors.get(f"{prefix}rmse_{x}") for x in ("f_mev_per_a", "e_mev_per_atom"))
    return f"{force:.1f} meV/Å" if force is not None else f"{energy:.2f} meV/atom"


def _check(found: Content) -> str:
    made = {name for one in found.values() for name in one["checks"]}
    return f"{len(made)} check{'s' if len(made) != 1 else ''}"


def _rung(found: Content) -> str:
    heats = found["heats"].values()
    kept, stopped = (sum(len(x[key]) for x in heats) for key in ("kept", "stopped"))
    return f"{kept} settings go on, {stopped} stopped"


def _shortlist(found: Content) -> str:
    return ", ".join(found["models"])


def _choose(found: Content) -> str:
    return str(found["point"])


def _trust(found: Content) -> str:
    if not found["sources"]:
        return ""
    sets = found["sources"]["features"]["sets"].items()
    shares = [f"{100 * x['components']['value']:.0f} % on {name}" for name, x in sets]
    return f"bounds hold for {', '.join(shares)}" if shares else "bounds, on no test set"


def _export(found: Content) -> str:
    passed = [row["engine"] for row in found["verified"] if row["verdict"] == "passed"]
    return f"the same in {', '.join(passed)}" if passed else ""


def _track(found: Content) -> str:
    return f"{len(found.get('runs', {}))} runs"


_OUTCOMES: dict[str, Callable[[Content], str]] = {
    "foundation": _foundation,
    "split": _split,
    "audit": _audit,
    "e0s": _e0s,
    "keep": _keep,
    "train": _train,
    "merge": _merge,
    "evaluate": _evaluate,
    "probe": _check,
    "check": _check,
    "thorough": _check,
    "rung": _rung,
    "shortlist": _shortlist,
    "choose": _choose,
    "trust": _trust,
    "export": _export,
    "track": _track,
}
