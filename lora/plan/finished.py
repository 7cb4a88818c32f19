"""Say which points of a trained pack have a model."""

from pathlib import Path

from lora.catalogue.endings import NO_MODEL
from lora.files.sealed import read_json


def finished(receipt: str | Path) -> list[str]:
    """Return the points of a pack that have a model, in the order of the pack.

    Later steps merge, evaluate and check these alone; the table has the others as failed.

    Args:
        receipt: The receipt of the pack's training, {point: contents of its train.json}.

    Raises:
        UserError: The receipt is missing or damaged.
    """
    results = read_json(receipt)
    return [point for point, result in results.items() if result["ended_by"] not in NO_MODEL]


def failed(receipt: Path, point: str) -> bool:
    """Return True for a point whose training has failed, so that nothing can be made of it.

    Args:
        receipt: The receipt of its pack's training; where there is none yet, nothing has failed.
        point: The point.

    Raises:
        UserError: The receipt is damaged.
    """
    return receipt.is_file() and point not in finished(receipt)
