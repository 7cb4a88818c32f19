"""Say what each job of a sweep depends on: settings, code, files of the user, other jobs.

A job is one command, `mace-lora STEP PLAN NAME`, and leaves one receipt.  What stands here decides
what runs again (see `lora.plan.freshness`), so a value that a step reads has to be named here.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lora.catalogue.atoms import EDITION
from lora.catalogue.checks import BY_NAME
from lora.catalogue.engines import BY_NAME as ENGINES
from lora.catalogue.findings import ROWS as FINDINGS
from lora.catalogue.foundations import terms_of
from lora.files.sealed import times_of
from lora.plan.config import Config
from lora.plan.config_data import LABELS
from lora.plan.job import FOUNDATION_ROLE, Job, key_of
from lora.plan.layout import Layout
from lora.plan.packs import Pack
from lora.plan.points import FOUNDATION, Point
from lora.plan.sections import Section
from lora.plan.settings import DEFAULTS


def make_jobs(
    config: Config, points: dict[str, Point], packs: dict[str, Pack], layout: Layout
) -> dict[str, Job]:
    """Return every job of a sweep by its key, each after those that it needs."""
    maker = _Maker(config, points, packs, layout)
    return {job.key: job for job in maker.all()}


@dataclass(frozen=True)
class _Maker:
    config: Config
    points: dict[str, Point]
    packs: dict[str, Pack]
    layout: Layout

    def all(self) -> Iterator[Job]:
        """Yield the jobs in an order in which they could run."""
        yield self.foundation()
        yield self.split()
        if self.config.replay.file:
            yield self.replay()
        yield self.audit()
        yield self.e0s()
        yield from (self.train(pack) for pack in self.packs.values() if pack.trains)
        yield from (self.truncate(point) for point in self.points.values() if point.cut_from)
        for pack in self.packs.values():
            yield from (self.merge(pack), self.evaluate(pack), self.check(pack))
        yield from (self.shortlist(), self.thorough(), self.choose())
        yield from self.pages()
        yield from (self.export(), self.card(), self.track())

    def job(self, step: str, name: str = "", /, **parts: Any) -> Job:
        """Return a job of a step, with the module of its name as its code where none is given."""
        parts.setdefault("code", (f"lora.steps.{step}",))
        return Job(step, name, self.layout.receipt(step, name), **parts)

    # --- foundation model and data

    def foundation(self) -> Job:
        """Return the job that keeps the foundation model in the results folder, and describes it.

        Others read the model and not this job's receipt, so that they run again only where the
        content of the model is another.
        """
        given = self.given_model()
        parts = {"files": {"model": given} if given else {}}
        replay = any(x.replays for x in self.points.values())
        settings = self.base() | {"licence": self.config.foundation.licence, "replay": replay}
        copies = {self.layout.foundation_model: given}
        return self.job("foundation", settings=settings, copies=copies, **parts)

    def split(self) -> Job:
        """Return the job that divides the data."""
        data, split = self.config.data, self.config.split
        files = {"data": Path(data.file)}
        files |= {f"test set {x.name}": Path(x.file) for x in data.test_sets}
        files |= {f"{name} set": Path(path) for name, path in split.given_files().items()}
        settings = _plain(split) | self.labels()
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
        settings = _plain(self.config.audit) | self.base()
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
        settings, files = _plain(own) | self.base() | {"dtype": "float64"}, self.base_file()
        if own.method == "auto":
            settings["free_atoms"] = EDITION
        if own.isolated_file:
            settings |= {key: getattr(data, key) for key in LABELS}
            files |= {"free atoms": Path(own.isolated_file)}
        parts = {"settings": settings, "files": files, "after": ("audit",)}
        return self.job("e0s", **parts, needs=("split",))

    # --- packs

    def train(self, pack: Pack) -> Job:
        """Return the job that trains a pack."""
        replays = pack.points[0].replays
        settings = self.base() | {
            "points": {x.name: x.settings.to_dict() for x in pack.points if x.settings},
            "failed": times_of(self.layout.failed(pack.name)),
            "gpus": self.config.pack.gpus,
        }
        parts = {"settings": settings, "files": self.base_file(), "after": ("audit",)}
        needs = ("split", "e0s", *(["replay"] if replays else []))
        return self.job("train", pack.name, needs=needs, **parts)

    def truncate(self, point: Point) -> Job:
        """Return the job that cuts an adapter."""
        assert point.settings is not None
        settings = self.base() | {"rank": point.settings.rank}
        needs = (key_of("train", self.pack_of(point.cut_from)),)
        files = self.base_file()
        return self.job("truncate", point.name, settings=settings, files=files, needs=needs)

    def merge(self, pack: Pack) -> Job:
        """Return the job that merges a pack's adapters, or sets the foundation model's E0s."""
        made = [key_of("train", pack.name)] if pack.trains else []
        made += [key_of("truncate", x.name) for x in pack.points if x.cut_from]
        settings = self.base() | {"points": [x.name for x in pack.points]}
        if pack.points[0] is FOUNDATION:
            settings["dtype"] = self.of_all("default_dtype")
        needs = ("split", "e0s", *made)
        return self.job("merge", pack.name, settings=settings, files=self.base_file(), needs=needs)

    def evaluate(self, pack: Pack) -> Job:
        """Return the job that evaluates a pack's models."""
        settings = {"batch_size": self.of_all("valid_batch_size")}
        needs = ("split", key_of("merge", pack.name))
        return self.job("evaluate", pack.name, settings=settings, needs=needs)

    def check(self, pack: Pack) -> Job:
        """Return the job that checks a pack's models."""
        checks = self.config.checks
        needs = ("split", "e0s", key_of("merge", pack.name))
        return self.job("check", pack.name, **self.checking(checks.of_every_point), needs=needs)

    def checking(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return settings, code and files of some checks."""
        checks, data = self.config.checks, self.config.data
        given = checks.settings.given()
        own = {x: given[x] for x in names if given.get(x)}
        rows = {x: asdict(BY_NAME[x]) for x in names}
        keys = {key: getattr(data, key) for key in LABELS}
        holdout = {"holdout": Path(checks.holdout_file)} if checks.holdout_file else {}
        code = ("lora.steps.check", *(BY_NAME[x].function for x in names))
        settings = {"names": list(names), "own": own, "rows": rows} | keys
        return {"settings": settings, "code": code, "files": holdout}

    # --- the whole sweep

    def every(self, *steps: str) -> tuple[str, ...]:
        """Return the jobs of some steps for every pack."""
        checked = self.config.checks.of_every_point
        return tuple(
            key_of(step, pack.name)
            for step in steps
            for pack in self.packs.values()
            if (step != "train" or pack.trains) and (step != "check" or checked)
        )

    def judged(self) -> dict[str, Any]:
        """Return what decides between points."""
        return {
            "points": list(self.points),
            "select": {
                "metric": self.config.select.metric,
                "limits": self.config.select.limits.given(),
            },
            "gpus": self.config.pack.gpus,
        }

    def shortlist(self) -> Job:
        """Return the job that names the points for the long checks."""
        settings = self.judged() | {"winners": self.config.checks.winners}
        needs = self.every("train", "evaluate", "check")
        return self.job("shortlist", settings=settings, needs=needs)

    def thorough(self) -> Job:
        """Return the job of the long checks."""
        parts = self.checking(self.config.checks.thorough)
        return self.job("thorough", **parts, needs=("split", "e0s", "shortlist"))

    def choose(self) -> Job:
        """Return the job that makes the table and chooses."""
        long = ["thorough"] if self.config.checks.thorough else []
        needs = (*self.every("train", "evaluate", "check"), *long)
        return self.job("choose", settings=self.judged(), needs=needs)

    def pages(self) -> Iterator[Job]:
        """Yield the jobs of the report, a page each."""
        points = {"points": list(self.points)}
        if self.committee:
            settings = {"points": [x.name for x in self.committee]}
            yield self.page("committee", settings, self.every("train", "evaluate"))
        committee = [key_of("report", "committee")] if self.committee else []
        decided = (*self.every("train", "evaluate", "check"), "choose", *committee)
        needs = ("split", "audit", "e0s", *decided)
        yield self.page("summary", self.judged() | self.terms(), needs)
        yield self.page("audit_page", {}, ("audit",))
        yield self.page("tables", points, ("choose", "split", "e0s"))
        yield self.page("figures", points, (*self.every("train", "evaluate"), "choose"))
        if any(x.cut_from for x in self.points.values()):
            yield self.page("rank_curve", points, ("choose",))
        if len(self.config.grid.train_fraction) > 1:
            yield self.page("data_size", points, ("choose",))

    def page(self, name: str, settings: dict[str, Any], needs: tuple[str, ...]) -> Job:
        """Return the job of one page."""
        code = ("lora.steps.report", f"lora.report.{name}:write")
        files = self.base_file() if name == "summary" else {}
        return self.job("report", name, settings=settings, needs=needs, code=code, files=files)

    def export(self) -> Job:
        """Return the job that writes and verifies files for engines."""
        rows = [ENGINES[name] for name in self.config.export.engines]
        settings = _plain(self.config.export) | self.terms()
        settings["files"] = {x.name: [x.suffix, list(x.modules)] for x in rows}
        named = dict.fromkeys(entry for x in rows for entry in (x.driver, x.writer))
        code = ("lora.steps.export", *named)
        parts = {"settings": settings, "code": code, "files": self.base_file()}
        return self.job("export", **parts, needs=("choose", "split", "audit", "e0s"))

    def card(self) -> Job:
        """Return the job of the page on the exported model."""
        snippets = {name: ENGINES[name].snippet for name in self.config.export.engines}
        return self.page("card_page", {"snippets": snippets}, ("export",))

    def track(self) -> Job:
        """Return the job that fills MLflow."""
        settings = _plain(self.config.tracking) | {
            "points": [x.name for x in self.points.values() if not x.cut_from],
            "missed": times_of(self.layout.missed),
        }
        settings.pop("live")  # turning it on retrains and logs nothing again
        pages = (key_of("report", "summary"), key_of("report", "figures"))
        needs = (*self.every("train", "merge", "evaluate", "check"), "choose", *pages)
        return self.job("track", settings=settings, needs=needs)

    # --- what several need

    def labels(self) -> dict[str, Any]:
        """Return how the labels of the data are read: their names, and weights where there are."""
        data = self.config.data
        weights = dict(data.config_type_weights)
        names = {key: getattr(data, key) for key in LABELS}
        return names | ({"config_type_weights": weights} if weights else {})

    def of_all(self, name: str) -> Any:
        """Return a setting that all trainings share."""
        return self.config.train.given().get(name, DEFAULTS[name])

    def terms(self) -> dict[str, Any]:
        """Return which foundation model is used, on which terms, as far as config and name say."""
        foundation = self.config.foundation
        return self.base() | {"terms": asdict(terms_of(foundation.model, foundation.licence))}

    @property
    def committee(self) -> list[Point]:
        """Return the LoRA points on all data without replay; one alone has no spread."""
        found = [x for x in self.points.values() if x.is_lora and x.peers[:2] == (False, 1)]
        return found if len(found) > 1 else []

    def pack_of(self, point: str) -> str:
        """Return the pack of a point."""
        return next(x.name for x in self.packs.values() if point in [p.name for p in x.points])

    def base(self) -> dict[str, Any]:
        """Return which foundation model is used, where that is a name and not a file."""
        foundation = self.config.foundation
        named = {} if self.given_model() else {FOUNDATION_ROLE: foundation.model}
        return named | {"head": foundation.head}

    def base_file(self) -> dict[str, Path]:
        """Return the foundation model that jobs load."""
        return {FOUNDATION_ROLE: self.layout.foundation_model}

    def given_model(self) -> Path | None:
        """Return the foundation model as the user gives it; None where that is a name."""
        path = Path(self.config.foundation.model)
        return path if path.is_file() else None


def _plain(section: Section) -> dict[str, Any]:
    """Return the values of a section, defaults filled in, without its files."""
    values = section.model_dump(mode="json")
    return {k: v for k, v in values.items() if not k.endswith("_file")}
