"""The checks: what each measures, its limit, and the settings that it takes."""

from dataclasses import dataclass
from typing import Literal

from lora.catalogue.bounds import COUNT, POSITIVE, Bounds

HOLES = "arXiv 2606.12704"
HOTTEST = 1500.0  # K, up to which potentials are tried
Tier = Literal["quick", "standard", "thorough"]
TIERS: tuple[Tier, ...] = ("quick", "standard", "thorough")


@dataclass(frozen=True)
class Setting:
    """One argument of a check.

    Attributes:
        name: The name of the argument.
        default: Its default.  An int means that only whole numbers are taken.
        unit: Its unit; empty for a plain count.
        bounds: The values that are allowed.
        description: One sentence for the reference.
    """

    name: str
    default: float
    unit: str
    bounds: Bounds
    description: str

    @property
    def whole(self) -> bool:
        """Return True if only whole numbers are taken."""
        return isinstance(self.default, int)


@dataclass(frozen=True)
class Check:
    """One check: a number for each model, lower is better.

    Attributes:
        name: The name in the config.
        tier: The tier that it belongs to by default.
        function: The function that measures it, as "module:name".
        meaning: What the number is, for results and pages.
        unit: The unit of the number.
        limit: The default limit.
        compare: Whether the limit holds for the number itself (absolute), for its ratio to the
            foundation model's number (ratio), or for its excess over it (excess).
        settings: The arguments.
        source: Where the check comes from.
        note: More about it, for the reference.
    """

    name: str
    tier: Tier
    function: str
    meaning: str
    unit: str
    limit: float
    compare: Literal["absolute", "ratio", "excess"]
    settings: tuple[Setting, ...] = ()
    source: str = ""
    note: str = ""

    def limit_text(self) -> str:
        """Return the limit in words, for the reference."""
        if self.compare == "ratio":
            return f"{self.limit:g} times the foundation model's"
        if self.compare == "excess":
            above = f"{self.limit:g} more than" if self.limit else "no more than"
            return f"{above} the foundation model's"
        return f"{self.limit:g} {self.unit}"


ROWS = (
    Check(
        *("forgetting", "quick", "lora.checks.forgetting:forgetting"),
        "force RMSE on structures of the foundation model's own level, against its own",
        *("meV/Å", 10.0, "ratio"),
        source=HOLES,
        note="It needs checks.holdout_file. Energies, without E0s, are in the JSON file.",
    ),
    Check(
        *(
            "gradients",
            "quick",
            "lora.checks.invariants:gradients",
            "forces against finite differences of the energy",
        ),
        *("eV/Å", 1e-4, "absolute"),
    ),
    Check(
        *(
            "symmetry",
            "quick",
            "lora.checks.invariants:symmetry",
            "change under rotation, reflection, translation, permutation",
        ),
        *("eV, eV/Å", 1e-6, "absolute"),
    ),
    Check(
        *(
            "extensivity",
            "quick",
            "lora.checks.invariants:extensivity",
            "energy of two copies far apart against twice one",
        ),
        *("eV", 1e-6, "absolute"),
        note="It needs molecules.",
    ),
    Check(
        *(
            "locality",
            "quick",
            "lora.checks.invariants:locality",
            "change of forces when an atom beyond the model's reach moves",
        ),
        *("eV/Å", 1e-9, "absolute"),
        note="It needs molecules.",
    ),
    Check(
        *(
            "atoms",
            "quick",
            "lora.checks.invariants:atoms_alone",
            "energy of free atoms against the E0s",
        ),
        *("eV", 0.01, "excess"),
    ),
    Check(
        *("dimers", "quick", "lora.checks.curves:dimers"),
        "pairs of elements without a repulsive wall, with a second minimum, or with a jump",
        *("faults", 1.0, "excess"),
        settings=(
            Setting(
                *("temperature", HOTTEST, "K", POSITIVE),
                "A second minimum counts if its barrier is higher than kT at this temperature.",
            ),
        ),
        note="Curves start at half a bond length. A second minimum counts where MD would feel it: "
        "at a distance that the pair has in the data, or below the minimum there.",
    ),
    Check(
        *(
            "eos",
            "quick",
            "lora.checks.curves:equation_of_state",
            "crystals whose energy over volume has more than one minimum",
        ),
        *("crystals", 0.0, "excess"),
        note="Volumes go from 88 to 112 percent. It needs periodic structures.",
    ),
    Check(
        *(
            "nve",
            "standard",
            "lora.checks.dynamics:energy_drift",
            "drift of the energy in MD at constant energy",
        ),
        *("meV/atom/ps", 1.0, "absolute"),
        settings=(
            Setting("steps", 500, "", COUNT, "The number of MD steps."),
            Setting("timestep", 0.5, "fs", POSITIVE, "The MD time step."),
            Setting("temperature", 300.0, "K", POSITIVE, "The temperature at the start."),
        ),
        note="Two standard errors of the slope are subtracted.",
    ),
    Check(
        *("heating", "thorough", "lora.checks.dynamics:heating"),
        "runs with a rising temperature that fall apart, collapse or explode",
        *("failures", 0.0, "excess"),
        settings=(
            Setting("steps", 2000, "", COUNT, "The number of MD steps of a run."),
            Setting("timestep", 0.5, "fs", POSITIVE, "The MD time step."),
            Setting("start", 300.0, "K", POSITIVE, "The temperature at the start."),
            Setting("end", HOTTEST, "K", POSITIVE, "The temperature at the end."),
        ),
    ),
    Check(
        *("holes", "thorough", "lora.checks.holes:holes"),
        "random structures that relax into a collapse or far below the data",
        *("%", 0.0, "excess"),
        settings=(
            Setting("structures", 360, "", COUNT, "The number of random structures."),
            Setting("steps", 50, "", COUNT, "The most relaxation steps."),
        ),
        source=HOLES,
        note="Far below is more than 1 eV/atom. What has fallen or settled goes no further. The "
        "report says which rate so many structures would have seen: 0.9 % by default, with 95 % "
        "confidence.",
    ),
)
BY_NAME = {row.name: row for row in ROWS}
NAMES = tuple(BY_NAME)


def of_tier(tier: Tier) -> tuple[str, ...]:
    """Return the names of the checks that run in a tier by default.

    Args:
        tier: The tier.
    """
    return tuple(row.name for row in ROWS if row.tier == tier)
