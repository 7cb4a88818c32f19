"""Say what the jobs before any training depend on: foundation model, data, labels, E0s."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lora.catalogue.atoms import EDITION
from lora.catalogue.findings import ROWS as FINDINGS
from lora.catalogue.made import BY_NAME as KINDS
from lora.catalogue.methods import EARLIER
from lora.files.sealed import read_seal
from lora.plan.config import Config
from lora.plan.config_data import LABELS
from lora.plan.earlier import CARD, adapter_at
from lora.plan.job import FOUNDATION_ROLE, Job
from lora.plan.layout import Layout
from lora.plan.packs import Pack
from lora.plan.points import Point
from lora.plan.sections import Section
from lora.plan.settings import DEFAULTS


@dataclass(frozen=True)
class DataJobs:
    """Maker of the jobs that all trainings share.

    config: the config
    points: every point by name
    packs:  every pack by name
    layout: the paths of the results
    """

    config: Config
    points: dict[str, Point]
    packs: dict[str, Pack]
    layout: Layout

    def job(self, step: str, name: str = "", /, **parts: Any) -> Job:
        """Return a job of a step, with the module of its name as its code where none is given."""
        parts.setdefault("code", (f"lora.steps.{step}",))
        return Job(step, name, self.layout.receipt(step, name), **parts)

    def foundation(self) -> Job:
        """Return the job that keeps the foundation model in the results folder, and describes it.

        Others read the model and not this job's receipt, so that they run again only where the
        content of the model is another.
        """
        given, under = self.given_model(), Path(self.config.foundation.base or "")
        files = {"model": given} if given else {}
        files |= {"base": under} if under.is_file() else {}
        replay = any(x.protocol.replay for x in self.points.values())
        settings = self.base() | {"licence": self.config.foundation.licence, "replay": replay}
        copies = {self.layout.foundation_model: given}
        return self.job("foundation", settings=settings, copies=copies, files=files)

    def split(self) -> Job:
        """Return the job that divides the data."""
        data, split = self.config.data, self.config.split
        files = {"data": Path(data.file)}
        files |= {f"test set {x.name}": Path(x.file) for x in data.test_sets}
        files |= {f"{name} set": Path(path) for name, path in split.given_files().items()}
        settings = plain(split) | self.labels()
        settings["test_sets"] = [x.name for x in data.test_sets]
        return self.job("split", settings=settings, files=files)

    def replay(self) -> Job:
        """Return the job that chooses and labels structures for replay."""
        replay, data = self.config.replay, self.config.data
        settings = {k: getattr(replay, k) for k in ("labels", "num_samples", "seed")}
        settings |= {key: getattr(data, key) for key in LABELS} | self.base()
        files = {"replay": Path(str(replay.file))} | self.base_file()
        return self.job("replay", settings=settings, files=files)

    def audit(self) -> Job:
        """Return the job that compares labels with the foundation model's own predictions."""
        checks, replay = self.config.checks, self.config.replay
        files = dict(self.split().files)
        files |= {"holdout": Path(checks.holdout_file)} if checks.holdout_file else {}
        if replay.file and replay.labels == "file":
            files["replay"] = Path(replay.file)
        settings = plain(self.config.audit) | self.base()
        settings |= self.labels()
        settings["engines"] = list(self.config.export.engines)
        settings["rows"] = {row.name: asdict(row) for row in FINDINGS}
        return self.job(
            "audit", settings=settings, files=files | self.base_file(), after=("split",)
        )

    def e0s(self) -> Job:
        """Return the job that estimates E0s."""
        own, data = self.config.e0s, self.config.data
        # float64 whatever trainings compute in, as receipts of sweeps in float64 have it
        settings, files = plain(own) | self.base() | {"dtype": "float64"}, self.base_file()
        if own.method == "auto":
            settings["free_atoms"] = EDITION
        if own.isolated_file:
            settings |= {key: getattr(data, key) for key in LABELS}
            files |= {"free atoms": Path(own.isolated_file)}
        if own.method == EARLIER:
            found = self.config.starts_from[0]
            files |= {"start": (adapter_at(found) or Path(found)) / CARD}
        parts = {"settings": settings, "files": files, "after": ("audit",)}
        return self.job("e0s", **parts, needs=("split",))

    def keep(self) -> Job:
        """Return the job that makes structures around the training set and labels them."""
        settings = plain(self.config.keep) | self.base()
        settings["batch_size"] = self.of_all("valid_batch_size")
        settings.pop("weight")  # which stands in the settings of the points
        code = ("lora.steps.keep", *(KINDS[x].function for x in self.config.keep.kinds))
        parts = {"settings": settings, "code": code, "files": self.base_file()}
        return self.job("keep", **parts, needs=("split", "e0s"))

    def of_all(self, name: str) -> Any:
        """Return a setting that all trainings share."""
        return self.config.train.given().get(name, DEFAULTS[name])

    def labels(self) -> dict[str, Any]:
        """Return how the labels of the data are read: their names, and weights where there are."""
        data = self.config.data
        weights = dict(data.config_type_weights)
        names = {key: getattr(data, key) for key in LABELS}
        return names | ({"config_type_weights": weights} if weights else {})

    def base(self) -> dict[str, Any]:
        """Return which foundation model is used, where that is a name and not a .model file."""
        named = {} if self.given_model() else {FOUNDATION_ROLE: self.named_model}
        return named | {"head": self.config.foundation.head}

    @cached_property
    def named_model(self) -> str:
        """Return the name of the foundation model; of an adapter, which is merged, its content."""
        model = self.config.foundation.model
        folder = adapter_at(model)
        return f"adapter {read_seal(folder / CARD)['digest']}" if folder else model

    def base_file(self) -> dict[str, Path]:
        """Return the foundation model that jobs load."""
        return {FOUNDATION_ROLE: self.layout.foundation_model}

    def given_model(self) -> Path | None:
        """Return the foundation model as the user gives it; None where that is a name."""
        path = Path(self.config.foundation.model)
        return path if path.is_file() else None


def plain(section: Section) -> dict[str, Any]:
    """Return the values of a section, defaults filled in, without its files.

    Args:
        section: A section of the config.
    """
    values = section.model_dump(mode="json")
    return {k: v for k, v in values.items() if not k.endswith("_file")}
