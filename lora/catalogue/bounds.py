"""Bounds of a number: one object for the checks, the JSON schema and the documentation."""

from dataclasses import dataclass

SEED_MAX = 2**32 - 1  # the largest seed that numpy and torch both take
COUNT_MAX = 10**9  # of things that are counted; larger numbers are slips


@dataclass(frozen=True)
class Bounds:
    """A range of numbers.

    Attributes:
        ge: The smallest allowed value, or None.
        gt: The value that every allowed value exceeds, or None.
        le: The largest allowed value, or None.
        lt: The value that every allowed value stays below, or None.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def admits(self, value: float) -> bool:
        """Return True if the value lies within the bounds; NaN never does.

        Args:
            value: The number to look at.
        """
        return (
            value == value
            and (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    def __str__(self) -> str:
        """Return the bounds in words, for example "above 0 and at most 1"."""
        words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
        parts = [
            f"{word} {getattr(self, name):.15g}"
            for name, word in words.items()
            if getattr(self, name) is not None
        ]
        return " and ".join(parts)


FREE = Bounds()
POSITIVE = Bounds(gt=0)
NOT_NEGATIVE = Bounds(ge=0)
COUNT = Bounds(ge=1, le=COUNT_MAX)
SEED = Bounds(ge=0, le=SEED_MAX)
