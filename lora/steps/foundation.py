"""Step `foundation`: fetch the foundation model once, keep its file, and say what it is.

    foundation/foundation.model, foundation.json

It runs where snakemake runs, which has a network; all other jobs load the file that is kept.  What
cannot be fine-tuned is refused here, before anything else runs.
"""

import hashlib
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora.catalogue.foundations import BY_NAME, terms_of
from lora.errors import UserError
from lora.files.sealed import Receipt, write_bytes
from lora.mace.describe import describe, prove_exact
from lora.mace.foundation import fingerprint
from lora.mace.loading import choose_head, fetch, heads_of, read_model
from lora.plan.commands import Base, Run

log = logging.getLogger(__name__)


def foundation(
    base: Base,
    out: Path | None = None,
    licence: str | None = None,
    run: Run = Run(),
    replay: bool = False,
    choose: bool = True,
) -> dict[str, Any]:
    """Keep a foundation model in a file, and describe it.

    Args:
        base: A .model file or a name that MACE knows, and the head to fine-tune.
        out: The .model file to write, a copy of the one that is given; None writes nothing.
        licence: The licence, where the user says it.
        run: The receipt to write in place of foundation.json beside `out`.
        replay: Whether it is trained with a second head for replay.
        choose: False describes a model with several heads, too, where none is chosen.

    Returns:
        The content of foundation.json.

    Raises:
        UserError: There is no such model, or it cannot be fine-tuned.
    """
    name = str(base.model)
    given = Path(name) if Path(name).is_file() else fetch(name)
    content = given.read_bytes()
    whole, repaired = read_model(given)
    whole.eval()
    result: dict[str, Any] = {"name": name, "source": _source(name)}
    result |= {"file": given.name, "sha256": hashlib.sha256(content).hexdigest()}
    result |= describe(whole) | {"repaired": repaired, "head": base.head, "fingerprint": None}
    if choose or len(heads_of(whole)) == 1:
        chosen = choose_head(whole, base.head, name)
        result |= {"head": heads_of(chosen)[0], "fingerprint": fingerprint(chosen)}
        result["max_abs_difference"] = prove_exact(whole, chosen, base, replay)
    result |= asdict(terms_of(name, licence, result["sha256"]))
    _say(result)
    if out is not None:
        if out.suffix != ".model":
            raise UserError(f"{out}: name a .model file")
        write_bytes(out, content)
        receipt = run.receipt or Receipt(out.with_name("foundation.json"))
        receipt.write(result, [out])
    return result


def _source(name: str) -> str:
    """Return where a model comes from: the file as it was named, or a published one's address."""
    return name if Path(name).is_file() else BY_NAME[name].url


def _say(result: dict[str, Any]) -> None:
    """Log what a model is, and what was mended or is not known of it."""
    log.info(
        "%s: %s of %d elements, r_max %g Å, head %s, %s, fingerprint %s",
        *(result["name"], result["class"], len(result["elements"]), result["r_max"]),
        *(result["head"], result["dtype"], result["fingerprint"]),
    )
    for what in result["repaired"]:
        log.warning("%s: mended: %s", result["name"], what)
    if result["licence_from"] is None:
        log.warning(
            "%s: its licence is not known; look it up, and set foundation.licence",
            result["name"],
        )
    elif result["licence_from"] == "catalogue":
        log.info("%s: licence as of %s: %s", *(result[x] for x in ("name", "published", "licence")))
