"""Step `foundation`: fetch the foundation model once, keep its file, and say what it is.

    foundation/foundation.model, foundation.json

It runs where snakemake runs, which has a network; all other jobs load the file that is kept.  What
cannot be fine-tuned is refused here, before anything else runs.  An adapter of an earlier sweep is
merged into its base; which sweeps made a model is told by what lies beside its file.
"""

import hashlib
import io
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lora.adapters.merged import read_merged
from lora.catalogue.foundations import BY_NAME, NOT_KNOWN, terms_of
from lora.errors import UserError
from lora.export.chain import Link, chain_of
from lora.files.sealed import Receipt, write_bytes
from lora.mace.describe import describe, prove_exact
from lora.mace.foundation import fingerprint
from lora.mace.loading import choose_head, fetch, heads_of, read_model
from lora.mace.origin import without_notes
from lora.plan.commands import Base, Run
from lora.plan.earlier import adapter_at
from lora.report.foundation_table import chain_text

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
        base: A .model file, a name that MACE knows or an adapter, and the head to fine-tune.
        out: The .model file to write: a copy of the one that is given, or the adapter merged;
            None writes nothing.
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
    given, content, whole, repaired = _read(base)
    whole.eval()
    result: dict[str, Any] = {"name": name, "source": _source(name)}
    result |= {"file": given.name, "sha256": hashlib.sha256(content).hexdigest()}
    result |= describe(whole) | {"repaired": repaired, "head": base.head, "fingerprint": None}
    if choose or len(heads_of(whole)) == 1:
        chosen = choose_head(whole, base.head, name)
        result |= {"head": heads_of(chosen)[0], "fingerprint": fingerprint(chosen)}
        result["max_abs_difference"] = prove_exact(whole, chosen, base, replay)
    result["chain"] = _chain(given, result["fingerprint"])
    result |= _terms(result, licence)
    _say(result)
    if out is not None:
        if out.suffix != ".model":
            raise UserError(f"{out}: name a .model file")
        write_bytes(out, content)
        receipt = run.receipt or Receipt(out.with_name("foundation.json"))
        receipt.write(result, [out])
    return result


def _read(base: Base) -> tuple[Path, bytes, nn.Module, list[str]]:
    """Return the file or folder that is given, the content to keep, its model, what was mended."""
    name = str(base.model)
    if folder := adapter_at(name):
        model = read_merged(folder, base)
        torch.save(without_notes(model), buffer := io.BytesIO())
        return folder, buffer.getvalue(), model, []
    given = Path(name) if Path(name).is_file() else fetch(name)
    return given, given.read_bytes(), *read_model(given)


def _chain(given: Path, fingerprint: str | None) -> list[Link]:
    """Return the sweeps that made a model, if what lies beside its file is about its weights."""
    links = chain_of(given)
    if links and fingerprint and links[-1]["fingerprint"] not in (None, fingerprint):
        log.warning(
            "%s: the records beside it are of other weights, so which sweep made it is not known",
            given,
        )
        return []
    return [*links[:-1], *(link | {"fingerprint": fingerprint} for link in links[-1:])]


def _terms(result: dict[str, Any], licence: str | None) -> dict[str, Any]:
    """Return the terms of a model: of one that a sweep made, those of the base it began with."""
    terms = asdict(terms_of(result["name"], licence, result["sha256"]))
    base = result["chain"][-1]["base"] if result["chain"] else {}
    terms["paper"] = terms["paper"] or base.get("cite")
    inherited = base.get("licence") or NOT_KNOWN
    if terms["licence_from"] is None and inherited != NOT_KNOWN:
        terms |= {"licence": inherited, "licence_from": "earlier sweep"}
    return terms


def _source(name: str) -> str:
    """Return where a model comes from: the path as it was named, or a published one's address."""
    return BY_NAME[name].url if name in BY_NAME and not Path(name).is_file() else name


def _say(result: dict[str, Any]) -> None:
    """Log what a model is, and what was mended or is not known of it."""
    log.info(
        "%s: %s of %d elements, r_max %g Å, head %s, %s, fingerprint %s",
        *(result["name"], result["class"], len(result["elements"]), result["r_max"]),
        *(result["head"], result["dtype"], result["fingerprint"]),
    )
    if result["chain"]:
        log.info("%s: made by earlier sweeps: %s", result["name"], chain_text(result["chain"]))
    for what in result["repaired"]:
        log.warning("%s: mended: %s", result["name"], what)
    if result["licence_from"] is None:
        log.warning(
            "%s: its licence is not known; look it up, and set foundation.licence",
            result["name"],
        )
    elif result["licence_from"] == "catalogue":
        log.info("%s: licence as of %s: %s", *(result[x] for x in ("name", "published", "licence")))
