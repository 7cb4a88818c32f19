"""Propose the config of a sweep for a file of structures, with the reason of each choice."""

import math
import re
from pathlib import Path

from lora.catalogue.checks import BY_NAME as CHECKS
from lora.catalogue.foundations import known_foundation
from lora.data.kinds import VACUUM
from lora.data.labels import NAMES, QUANTITIES
from lora.data.look import Look
from lora.plan.config_data import Data, Split
from lora.plan.draft import ALPHAS, RANKS, Draft
from lora.plan.settings import DEFAULTS
from lora.plan.words import listed

STEPS = 10_000  # of the optimiser, that a fine-tuning gets
FEWEST, MOST = 20, 500  # epochs
LEAST_STEPS = 50  # of an epoch, before larger batches are taken
BATCHES = (10, 5, 2)
LEAST_SET = 10  # structures of a validation set, below which a larger share is taken
LARGER = 0.2
INDEPENDENT = 5  # times the memory of a trajectory: a block
LEAST_BLOCKS = 20
SEEDS = [1, 2, 3]
# MACE's weights of energy, forces and stress for the losses that have a stress
STRESS_WEIGHTS = {"energy_weight": 1, "forces_weight": 10, "stress_weight": 100}
KINDS = {
    "molecule": "not periodic",
    "box": f"in periodic cells with over {VACUUM:g} Å of vacuum on every side",
    "slab": "slabs",
    "crystal": "crystals",
}


def proposal(seen: Look, foundation: str, head: str | None = None) -> Draft:
    """Return a config for a file.

    Args:
        seen: What the file holds.
        foundation: The foundation model, a name or a file.
        head: Its head, where it has several.
    """
    formulas = [*seen.formulas]
    of = listed(formulas, "and") if len(formulas) < 4 else f"{len(formulas)} formulas"
    kinds = listed((f"{n} {KINDS[k]}" for k, n in seen.kinds.items()), "and")
    sample = "" if sum(seen.kinds.values()) == seen.n else ", in a sample"
    draft = Draft(
        f"From a look at {seen.path}: {seen.n} structures of {of} ({', '.join(seen.symbols)}), "
        f"{seen.atoms:.3g} atoms each on average; {kinds}{sample}.",
        "What is not written here has the default of config/README.md.",
    )
    draft.set("results", f"results_{_word(seen.path.stem)}")
    _foundation(draft, seen, foundation, head)
    _labels(draft, seen)
    train = _split(draft, seen)
    _e0s(draft, seen)
    _grid(draft)
    _train(draft, seen, train)
    _checks(draft, seen)
    return draft


def _word(text: str) -> str:
    """Return a text as a part of the name of a folder."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)


def _foundation(draft: Draft, seen: Look, foundation: str, head: str | None) -> None:
    known = known_foundation(foundation)
    licence = known.licence if known else None
    why = [f"Its licence: {licence}."] if licence and not Path(foundation).is_file() else []
    draft.set("foundation.model", foundation, *why)
    if head:
        draft.set("foundation.head", head)


def _labels(draft: Draft, seen: Look) -> None:
    """Write the names of the labels."""
    draft.set("data.file", str(seen.path))
    for quantity in NAMES:
        key, found = f"data.{quantity}_key", seen.labels.get(quantity)
        if found is None:
            if quantity == "stress" and "virials" not in seen.labels:
                draft.say(key, "The file has none.")
            continue
        if found.others:
            others = listed(found.others, "and")
            draft.doubt(
                key,
                f"{found.name} is taken, because {found.why}; {others} could be the {quantity}, "
                "too: look which it is.",
            )
        if (lacking := seen.n - found.frames) and quantity in QUANTITIES:
            said = f"{lacking} of {seen.n} structures have no {found.name}: they have weight 0."
            draft.doubt(key, said)
        if found.name != Data.model_fields[f"{quantity}_key"].default:
            draft.set(key, found.name)


def _split(draft: Draft, seen: Look) -> int:
    """Write how the data are divided.  Return the size of the training set, roughly."""
    default = Split()
    share = default.valid_fraction
    if seen.groups:
        name, count = max(seen.groups.items(), key=lambda x: x[1])
        draft.set(
            "split.method",
            "group",
            f"{name} tells {count} groups; structures of one group are alike and stay together.",
        )
        draft.set("split.group_key", name)
    elif seen.memory:
        size = max(1, min(INDEPENDENT * seen.memory, seen.n // LEAST_BLOCKS))
        draft.set(
            "split.method",
            "blocked",
            f"The frames are of a trajectory: neighbours stay alike for about {seen.memory} "
            "frames. A random split would put near copies of the training set into the others.",
        )
        if size < 2 * seen.memory:
            draft.doubt(
                "split.block_size",
                f"{seen.n} frames are few for a memory of {seen.memory}: errors on the validation "
                "and test set will be too low; a test set of another run tells more "
                "(data.test_sets).",
            )
        draft.set("split.block_size", size)
    else:
        draft.say("split.method", f"random. {_why_random(seen)}")
    if share * seen.n < LEAST_SET:
        share = LARGER
        why = f"{default.valid_fraction:.0%} of {seen.n} structures would be few to compare on."
        draft.set("split.valid_fraction", share, why)
        draft.set("split.test_fraction", share)
    return max(1, round((1 - 2 * share) * seen.n))


def _why_random(seen: Look) -> str:
    """Return why single structures can be moved."""
    alike = "Neighbours in the file differ as much as any two structures"
    if len(seen.types) == 1:
        return f"{alike}."
    names = listed([*seen.types][:4], "and") + (" ..." if len(seen.types) > 4 else "")
    return (
        f"{alike}. Errors are reported for each config_type ({names}), too; to test on types that "
        "were not trained on, use the method group with group_key config_type."
    )


def _e0s(draft: Draft, seen: Look) -> None:
    """Write where the E0s are from."""
    missing = [x for x in seen.symbols if x not in seen.free]
    if not missing:
        said = f"auto: those of the free atoms in the file ({', '.join(seen.free)})."
        draft.say("e0s.method", said)
        return
    lacking = f"free atoms of {', '.join(missing)}" if seen.free else "free atoms"
    said = f"auto. The file has no {lacking}"
    if len(seen.formulas) < len(seen.symbols):
        said += (
            f", and {_count(len(seen.formulas), 'formula')} cannot fix {len(seen.symbols)} E0s: "
            "energies of other compositions will mean little. Free atoms of the same level of "
            "theory, in this file or in e0s.isolated_file, would fix them"
        )
    draft.say("e0s.method", f"{said}.")


def _grid(draft: Draft) -> None:
    """Write the points."""
    draft.set("grid.rank", RANKS, "A few ranks show whether more parameters help.")
    draft.set("grid.alpha", ALPHAS, "Alpha matters more than rank (docs/study); 1 learns slowly.")
    draft.set(
        "grid.seed",
        SEEDS,
        "With fewer than three seeds the report cannot tell a difference from noise.",
    )
    draft.say(
        "race",
        "off, which trains every point to the end. on stops most of them early; the first lines of "
        "a start (--dry-run, too) say how many epochs that saves.",
    )
    draft.say(
        "baselines",
        "The foundation model, and full and freeze at three learning rates; [] leaves them out.",
    )


def _train(draft: Draft, seen: Look, train: int) -> None:
    """Write the loss, the size of batches and the number of epochs."""
    stress = seen.labels.get("stress") or seen.labels.get("virials")
    if stress and seen.kinds.get("crystal", 0) + seen.kinds.get("slab", 0):
        of = "Every structure" if stress.frames == seen.n else f"{stress.frames} structures"
        has = "has" if stress.frames == seen.n else "have"
        why = f"{of} {has} {stress.name}. MACE's weights for this loss."
        draft.set("train.loss", "universal", why)
        for name, weight in STRESS_WEIGHTS.items():
            if weight != DEFAULTS[name]:
                draft.set(f"train.{name}", weight)
    elif stress:
        draft.say("train.loss", "weighted, without a stress: that of molecules means nothing.")
    else:
        draft.say("train.loss", "weighted: energies and forces.")
    batch = next((x for x in BATCHES if train >= x * LEAST_STEPS), BATCHES[-1])
    if batch != DEFAULTS["batch_size"]:
        why = f"About {train} structures to train on; larger batches make too few steps an epoch."
        draft.set("train.batch_size", batch, why)
    per_epoch = math.ceil(train / batch)
    epochs = min(MOST, max(FEWEST, _round(STEPS / per_epoch)))
    said = (
        f"{STEPS:,} steps of the optimiser are enough for most fine-tunings: {per_epoch} an epoch"
    )
    bounds = f", from {FEWEST} to {MOST} epochs" if epochs in (FEWEST, MOST) else ""
    draft.set("train.max_num_epochs", epochs, f"{said}{bounds}.")
    draft.say("train.device", "cuda where there is a GPU, also with --profile slurm.")


def _count(n: int, what: str) -> str:
    """Return a number of things in words."""
    return f"one {what}" if n == 1 else f"{n} {what}s"


def _round(value: float) -> int:
    """Return a number with two digits."""
    scale = 10 ** max(0, len(str(int(value))) - 2)
    return int(round(value / scale) * scale)


def _checks(draft: Draft, seen: Look) -> None:
    """Say which checks apply."""
    periodic = seen.kinds.get("crystal", 0) + seen.kinds.get("slab", 0) + seen.kinds.get("box", 0)
    free = [x for x, row in CHECKS.items() if "molecules" in row.note]
    bound = [x for x, row in CHECKS.items() if "periodic" in row.note]
    if not periodic:
        said = f"No structure is periodic, so {listed(bound, 'and')} has nothing to measure."
    elif not seen.kinds.get("molecule"):
        said = f"All structures are periodic, so {listed(free, 'and')} have nothing to measure."
    else:
        said = "All of them apply."
    draft.say("checks", said)
    draft.say(
        "checks.holdout_file",
        "Structures labelled at the foundation model's own level of theory show what is forgotten.",
    )
