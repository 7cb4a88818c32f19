"""Say in words where E0s are from, what they leave open, and which energies no E0s explain."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lora.data.e0s import FIT, Chosen
from lora.data.kinds import say_kinds, strange_kinds
from lora.data.outliers import SecondLook
from lora.data.priors import FOUNDATION, FREE, TABLE, Evidence
from lora.data.statistics import rms, typical

NAMED = 3  # frames that a message names
MOVED = 1e-3  # eV; a smaller move of E0s is not spoken of
REMEDY = "correct or remove those frames, or give them config_energy_weight=0"
PLURAL = {
    FREE: "free atoms",
    TABLE: "tabulated all-electron atoms",
    FOUNDATION: "the foundation model's",
}
SMALLEST = {  # what the fits without priors do where E0s are open
    "estimated": "the smallest shifts of the foundation model's",
    "average": "the smallest",
}


@dataclass(frozen=True)
class Errors:
    """Errors of the foundation model on the training energies (meV/atom), [n_structures].

    Attributes:
        values: With the new E0s: the energy in the data minus the predicted one.
        weights: The weights of their squares.
        look: The fit that single frames do not bend.
        frames: File and frame of each structure.
        kinds: What each structure is, in words; without, all are of one kind.
    """

    values: np.ndarray
    weights: np.ndarray
    look: SecondLook
    frames: list[str]
    kinds: list[str] = field(default_factory=list)

    def strange_kinds(self) -> dict[str, tuple[int, int]]:
        """Return the kinds that the foundation model does not describe: {kind: (far off, all)}."""
        return strange_kinds(self.kinds, self.look.far.tolist()) if self.kinds else {}

    @property
    def rmse(self) -> float:
        """Return the weighted RMS."""
        return rms(self.values, self.weights)

    def worst(self, errors: np.ndarray) -> list[tuple[str, float]]:
        """Return frames and errors, the largest first, of as many as are shown."""
        order = np.argsort(-np.abs(errors), kind="stable")
        return [(self.frames[i], float(errors[i])) for i in order[:NAMED] if errors[i]]


def headline(method: str, chosen: Chosen, evidence: Evidence) -> str:
    """Return where the E0s are from, where nothing is open.

    Args:
        method: The method.
        chosen: The E0s.
        evidence: What they were chosen from.
    """
    if FIT in chosen.sources:
        n = len(evidence.energies)
        return f"E0s ({method}): fitted to {n} training energies, which determine all of them."
    what = {
        "isolated": "the energies of free atoms",
        "foundation": "those of the foundation model",
        "explicit": "as the config gives them",
        "adapter": "those of the adapter that trainings go on from",
    }
    return f"E0s ({method}): {what[method]}."


def open_e0s(method: str, chosen: Chosen, evidence: Evidence) -> str:
    """Return what it means that the compositions leave E0s open; "" where they do not.

    Args:
        method: The method.
        chosen: The E0s.
        evidence: What they were chosen from.
    """
    n, rank = int(evidence.bonded.sum()), chosen.rank
    if rank >= n or (method != "auto" and method not in SMALLEST):
        return ""
    begin = (
        f"The compositions of the training set determine {rank} of {n} E0s (e0s.method {method})"
    )
    remedy = "Add structures of other compositions"
    if method in SMALLEST:
        used = f"of all that fit, {SMALLEST[method]} are used"
        remedy += ", or set e0s.method: auto and give free atoms"
    else:
        used = f"of all that fit, those nearest to {_origins(chosen, evidence)} are used"
        if missing := [s for s in _open(chosen, evidence) if s not in evidence.free]:
            remedy += f", or free atoms of {' '.join(missing)} (in the data or e0s.isolated_file)"
    return f"{begin}: {used}. Energies of other compositions are not reliable. {remedy}."


def far_off(errors: Errors) -> str:
    """Return which energies are far off all others; "" where none is.

    Args:
        errors: The errors of the foundation model.
    """
    look = errors.look
    if not look.far.any():
        return ""
    n = int(look.far.sum())
    if kinds := errors.strange_kinds():
        of = say_kinds(kinds)
        return (
            f"{n} of {len(look.far)} training energies are far off what the others agree on, all "
            f"of kinds that the foundation model does not describe ({of}): "
            f"{_named(errors, look.errors * look.far)}. Training has to learn them."
        )
    return (
        f"{n} of {len(look.far)} training energies {'is' if n == 1 else 'are'} far off what the "
        "others agree on, as after a calculation that did not converge: "
        f"{_named(errors, look.errors * look.far)}. They move a fit of E0s by up to "
        f"{look.moved:.3g} meV/atom; {REMEDY}."
    )


def from_earlier(chosen: Mapping[str, float], earlier: Mapping[str, float]) -> str:
    """Return how far E0s are from those of an adapter that trainings go on from; "" if they agree.

    The energies of an adapter without a step of training are wrong by about that an atom.

    Args:
        chosen: The E0s, {symbol: eV}.
        earlier: Those that the adapter was trained with.
    """
    moved = {x: chosen[x] - energy for x, energy in earlier.items() if x in chosen}
    worst = max(moved, key=lambda x: abs(moved[x]), default="")
    if not worst or abs(moved[worst]) <= MOVED:
        return ""
    return (
        f"E0s are up to {abs(1e3 * moved[worst]):.3g} meV ({worst}) from those of the adapter that "
        "trainings go on from, so its energies begin wrong by about that an atom; e0s.method: "
        "adapter keeps them."
    )


def over_gate(method: str, errors: Errors, limit: float) -> str:
    """Return why the error exceeds the gate, and what to do; "" where it does not.

    The median size of the errors tells single frames from all; a fit that single frames do not
    bend tells E0s from what no E0s explain.  Whole kinds of structures that the foundation model
    does not describe (clusters beside crystals, say) do not count, where the others keep the gate.

    Args:
        method: The method.
        errors: The errors of the foundation model.
        limit: The gate (meV/atom).
    """
    look, fitted = errors.look, method in ("auto", "estimated")
    others = look.rmse if fitted else rms(errors.values[~look.far], errors.weights[~look.far])
    if errors.rmse <= limit or (errors.strange_kinds() and others <= limit):
        return ""
    begin = (
        f"With the new E0s, the foundation model is off by {errors.rmse:.0f} meV/atom, over the "
        f"gate of {limit:g}"
    )
    end = "To continue, raise e0s.max_error or set e0s.stop: false."
    values = look.errors if fitted else errors.values
    best, usual = look.rmse, typical(values)
    if usual <= limit or (fitted and best <= limit):
        single = _named(errors, values * look.far if look.far.any() else values)
        return (
            f"{begin}, because of single frames and not of the E0s: a typical error is {usual:.0f} "
            f"meV/atom. The worst: {single}; {REMEDY}. {end}"
        )
    worst = _named(errors, values)
    if best <= limit:
        return (
            f"{begin}; other E0s would leave {best:.0f}, so that those of e0s.method {method} are "
            f"wrong for these energies: set e0s.method: auto. The worst frames are {worst}. {end}"
        )
    return (
        f"{begin}, and no E0s bring that below {best:.0f}. Usual causes are energies that are not "
        "total energies in eV, and structures that the foundation model does not describe. The "
        f"worst frames are {worst}. {end}"
    )


def _named(errors: Errors, values: np.ndarray) -> str:
    """Return the frames of the largest errors, with them."""
    return ", ".join(f"{frame} ({error:+.0f} meV/atom)" for frame, error in errors.worst(values))


def _open(chosen: Chosen, evidence: Evidence) -> list[str]:
    """Return the bonded elements whose E0s the fit leaves open."""
    rows = zip(evidence.symbols, chosen.sources, evidence.bonded, strict=True)
    return [symbol for symbol, source, bonded in rows if bonded and source != FIT]


def _origins(chosen: Chosen, evidence: Evidence) -> str:
    """Return the priors that open E0s are nearest to, with their elements."""
    found: dict[str, list[str]] = {}
    for symbol in _open(chosen, evidence):
        source = chosen.sources[evidence.symbols.index(symbol)]
        found.setdefault(source, []).append(symbol)
    return " and ".join(f"{PLURAL[x]} ({' '.join(symbols)})" for x, symbols in found.items())
