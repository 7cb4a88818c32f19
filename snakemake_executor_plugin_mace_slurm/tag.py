"""Say in the comment of a Slurm job what it is: `squeue -o "%i %T %k"` shows it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MOST = 900  # characters of a comment; Slurm takes 1024


def members(job: Any) -> list[Any]:
    """Return the jobs of snakemake that one job of Slurm runs, in their order: of a group several.

    Args:
        job: A job or a group of jobs.
    """
    return list(job) if job.is_group() else [job]


@dataclass(frozen=True)
class Tag:
    """What a Slurm job runs.

    jobs:   {job of the sweep: digest of what it is made of; "" where nothing says that}
    points: that it is about
    """

    jobs: dict[str, str]
    points: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the comment: `train/lora_s3_1=3f9a1c05 lora_r1_a0.5_s3 lora_r2_a0.5_s3`."""
        words = " ".join(f"{key}={digest}" for key, digest in self.jobs.items())
        for i, point in enumerate(self.points):
            if len(words) + len(point) > MOST:
                return f"{words} and {len(self.points) - i} more"
            words = f"{words} {point}"
        return words

    @classmethod
    def read(cls, comment: str) -> "Tag":
        """Return the jobs that a comment names; of points nothing is asked."""
        pairs = (x.partition("=") for x in comment.split() if "=" in x)
        return cls({key: digest for key, _, digest in pairs})

    @property
    def name(self) -> str:
        """Return what messages call it."""
        return " ".join(self.jobs)

    def covers(self, other: "Tag") -> bool:
        """Return True where this one does all that another would, from the same."""
        return all(x and self.jobs.get(key) == x for key, x in other.jobs.items())

    def meets(self, keys: Iterable[str]) -> bool:
        """Return True where it runs one of some jobs."""
        return not self.jobs.keys().isdisjoint(keys)
