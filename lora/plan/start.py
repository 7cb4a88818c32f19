"""Say how snakemake was started, and refuse results that cannot be gone on with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lora.errors import UserError
from lora.plan.layout import Layout


@dataclass(frozen=True)
class Start:
    """How snakemake was started, in plain values.

    main:      True in the process that the user started, False in jobs
    dry:       True where nothing will run
    locked:    True where another snakemake works in this folder
    cores:     of this machine that may be used
    nodes:     jobs at a time on a cluster, None where all runs here
    resources: default resources of the profile
    of_rules:  its resources of single rules
    """

    main: bool = True
    dry: bool = False
    locked: bool = False
    cores: int = 1
    nodes: int | None = None
    resources: Mapping[str, object] = field(default_factory=dict)
    of_rules: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    @property
    def places(self) -> int:
        """Return how many trainings can run at a time: jobs of a cluster, or cores here."""
        return self.cores if self.nodes is None else self.nodes

    @property
    def runs(self) -> bool:
        """Return True where jobs will be started from here."""
        return self.main and not self.dry and not self.locked


def refuse_old(layout: Layout) -> None:
    """Raise UserError for results of 0.1, which had no plan and no stamps."""
    if (layout.results / "train" / "packs.json").is_file() and not layout.plan.is_file():
        raise UserError(
            f"config: results: {layout.results} was made by version 0.1, whose results this "
            "version cannot go on with; name another folder, or delete it"
        )
