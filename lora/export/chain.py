"""The chain of sweeps that made a model: base, data, adapter, data, adapter, ...

A link is one sweep: its base, its data, its point and the adapter, and the weights that they gave.
The card of an exported model holds the links before its own, foundation.json those that made the
foundation model.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora.catalogue.foundations import NOT_KNOWN, terms_of
from lora.files.sealed import digest, read_json
from lora.plan.config_data import Foundation
from lora.plan.earlier import CARD, TENSORS, adapter_at, sweep_of
from lora.plan.layout import Layout
from lora.plan.sweep import Sweep

Link = dict[str, Any]
KEYS = ("point", "base", "data", "adapter", "settings", "fine_tuned_elements", "fingerprint")
# of the settings
TOLD = ("method", "rank", "alpha", "scaling", "start", "replay", "keep", "seed", "lr")


def chain_of(path: str | Path) -> list[Link]:
    """Return the sweeps that made a model or an adapter, the first one first.

    What is known is read beside the file: the card of an export, the results folder of a sweep,
    else what merge or training left with it.

    Args:
        path: A .model file, or what `adapter_at` takes.

    Returns:
        The links; [] for a model that no sweep made. The last one of an adapter has None as its
        fingerprint, because it was not merged.
    """
    if folder := adapter_at(path):
        return _of_adapter(folder)
    path = Path(path).resolve()
    card, merged, kept = (path.with_name(f"{x}.json") for x in ("card", "merge", "foundation"))
    if card.is_file() and path.name in (found := read_json(card)).get("files", {}):
        if found.get("settings") is None:  # the export of a model that no sweep made
            return []
        return [*found.get("chain", []), {key: found.get(key) for key in KEYS}]
    if merged.is_file() and (found := read_json(merged)).get("model") == path.name:
        own = {key: found[key] for key in ("fine_tuned_elements", "fingerprint")}
        return _with_records(path, path.stem, own)
    if kept.is_file() and path == Layout(kept.parents[1]).foundation_model:
        return list(read_json(kept).get("chain", []))
    return []


def _of_adapter(folder: Path) -> list[Link]:
    """Return the sweeps that made an adapter."""
    card = read_json(folder / CARD)
    base = {"licence": NOT_KNOWN, "cite": None} | card["base"]
    method = {key: card[key] for key in TOLD if key in card}
    own = {"base": base, "adapter": {"digest": digest(folder / TENSORS)}, "settings": method}
    own |= {"fine_tuned_elements": sorted(card["elements"]), "fingerprint": None}
    return _with_records(folder, folder.resolve().parent.name, own)


def _with_records(path: Path, point: str, own: Link) -> list[Link]:
    """Return the links of a point of a sweep, as far as its records are there."""
    unknown: Link = {"point": point, "base": {}, "data": {}, "adapter": {}, "settings": {}}
    layout = sweep_of(path)
    if layout is None:
        return [unknown | own]
    base = layout.receipt("foundation")
    before = read_json(base).get("chain", []) if base.is_file() else []
    found = link_of(layout, Sweep.load(layout.plan), point)
    base = own.get("base", {}) | {k: v for k, v in found["base"].items() if v is not None}
    return [*before, unknown | own | {k: v for k, v in found.items() if v} | {"base": base}]


def link_of(layout: Layout, sweep: Sweep, point: str) -> Link:
    """Return what the files of a sweep say of what a point was made from.

    Args:
        layout: The results folder.
        sweep: The sweep.
        point: The name of the point.

    Returns:
        point, base, data, adapter and settings.
    """
    config = sweep.config
    trained = layout.training(point) / "train.json"
    train = read_json(trained) if trained.is_file() else {}
    folders = (layout.training(point), layout.cut(point))
    adapters = [folder / "adapter" / TENSORS for folder in folders]
    weights = next((path for path in adapters if path.is_file()), None)
    settings = train.get("settings", {})
    return {
        "point": point,
        "base": _base(layout, config.foundation, train.get("base_fingerprint")),
        "data": {"file": config.data.file, "digest": train.get("data_digest")},
        "adapter": {"digest": digest(weights) if weights else None},
        "settings": {k: settings[k] for k in TOLD if k in settings},
    }


def _base(layout: Layout, foundation: Foundation, fingerprint: str | None) -> Link:
    """Return what is known of the foundation model of a sweep."""
    receipt = layout.receipt("foundation")  # results of before 0.2 have none
    terms = asdict(terms_of(foundation.model, foundation.licence))
    said = read_json(receipt) if receipt.is_file() else terms
    found = {"name": foundation.model, "head": foundation.head, "fingerprint": fingerprint}
    found |= {"sha256": said.get("sha256"), "repaired": said.get("repaired", [])}
    return found | {"licence": said["licence"], "cite": said["paper"]}
