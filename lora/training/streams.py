"""Name every stream of random numbers of a training; a point's seed starts all of them."""

from dataclasses import dataclass

EPOCHS_APART = 1_000_003  # a prime: orders of one seed do not meet those of its neighbours


@dataclass(frozen=True)
class Streams:
    """The seeds of a training, one for each use of random numbers.

    Attributes:
        start: Of torch's generator, which draws the start values of A.
        subset: Of numpy's generator, which draws the structures of a train_fraction.
        first_order: Of the order of the structures in epoch 0; see `order`.
    """

    start: int
    subset: int
    first_order: int

    def order(self, epoch: int) -> int:
        """Return the seed of the order of the structures in an epoch.

        Each epoch has its own, so that a resumed training repeats the order.
        """
        return self.first_order + epoch


def streams(seed: int) -> Streams:
    """Return the seeds of a training, of the seed in its settings."""
    return Streams(start=seed, subset=seed, first_order=seed * EPOCHS_APART)
