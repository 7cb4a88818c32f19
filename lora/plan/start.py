"""Say how snakemake was started, and refuse results that cannot be gone on with."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lora.errors import UserError
from lora.plan.config import Config
from lora.plan.home import refuse_other_rules
from lora.plan.layout import Layout

LOCKS = Path(".snakemake/locks")


@dataclass(frozen=True)
class Start:
    """How snakemake was started, in plain values.

    main:      True in the process that the user started, False in jobs
    dry:       True where nothing will run
    locked:    True where another snakemake works on these results, or was killed at it
    cores:     of this machine that may be used
    nodes:     jobs at a time on a cluster, None where all runs here
    resources: default resources of the profile
    moved:     True where a module gives files a prefix, which the plan knows nothing of
    provider:  storage that all files would go through, "" for a disk
    rules:     pyproject.toml beside rules that come from a forge, "" beside those of a clone
    of_rules:  its resources of single rules
    """

    main: bool = True
    dry: bool = False
    locked: bool = False
    cores: int = 1
    nodes: int | None = None
    resources: Mapping[str, object] = field(default_factory=dict)
    moved: bool = False
    provider: str = ""
    rules: str = ""
    of_rules: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    @property
    def places(self) -> int:
        """Return how many trainings can run at a time: jobs of a cluster, or cores here."""
        return self.cores if self.nodes is None else self.nodes

    @property
    def runs(self) -> bool:
        """Return True where jobs will be started from here."""
        return self.main and not self.dry and not self.locked

    def refuse_strange(self) -> None:
        """Raise UserError for files that are moved, and for rules that are not this library's."""
        if self.rules:
            refuse_other_rules(self.rules)
        if self.provider:
            raise UserError(
                f"storage: the jobs of a sweep share one results folder, and {self.provider} would "
                "carry only a part of it; leave out default-storage-provider, and give all jobs "
                "one disk under one path (docs/cluster.md, Other schedulers)"
            )
        if self.moved:
            raise UserError(
                "module: prefix and replace_prefix would move the files of a sweep away from where "
                "its plan has them; leave them out and name the folder by results in the config"
            )


def in_use(raw: Mapping[str, object], locks: Path = LOCKS) -> bool:
    """Return True where another snakemake has locked files of the results folder of a config.

    Snakemake itself goes on where no two of its files are the same, as those of two sweeps.

    Args:
        raw: The config as it was read.
        locks: The folder of snakemake's locks; each is a file with the paths that it locks.
    """
    results = os.path.abspath(str(raw.get("results", Config.model_fields["results"].default)))
    inside = os.path.join(results, "")
    for lock in locks.glob("*"):
        try:
            paths = lock.read_text(errors="replace").splitlines()
        except OSError:  # it has just ended
            continue
        if any(os.path.abspath(x).startswith(inside) for x in paths):
            return True
    return False


def refuse_old(layout: Layout) -> None:
    """Raise UserError for results of 0.1, which had no plan and no stamps."""
    if (layout.results / "train" / "packs.json").is_file() and not layout.plan.is_file():
        raise UserError(
            f"config: results: {layout.results} was made by version 0.1, whose results this "
            "version cannot go on with; name another folder, or delete it"
        )
