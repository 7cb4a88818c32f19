"""Say what each job of a sweep depends on: settings, code, files of the user, other jobs.

A job is one command, `mace-lora STEP PLAN NAME`, and leaves one receipt.  What stands here decides
what runs again (see `lora.plan.freshness`), so a value that a step reads has to be named here.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lora.catalogue.checks import BY_NAME
from lora.catalogue.engines import BY_NAME as ENGINES
from lora.catalogue.foundations import known_foundation
from lora.plan.config import Checks, Config
from lora.plan.config_data import Split
from lora.plan.layout import Layout
from lora.plan.packs import Pack
from lora.plan.points import FOUNDATION, Point
from lora.plan.sections import Section
from lora.plan.settings import DEFAULTS, TrainSettings

# steps that compute with torch, MACE and e3nn, whose versions count
COMPUTE = ("replay", "e0s", "train", "truncate", "merge", "evaluate", "check", "thorough", "export")
KEYS = ("energy_key", "forces_key", "stress_key")


@dataclass(frozen=True)
class Job:
    """One command of a sweep.

    settings: every value of the config that the step reads, as JSON
    files:    {role: file of the user}; their contents count, not their names
    needs:    the jobs whose receipts it reads
    code:     modules, or functions in them, that it runs
    """

    step: str
    name: str
    receipt: Path
    settings: dict[str, Any]
    code: tuple[str, ...]
    files: dict[str, Path] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return what a job is called in a plan."""
        return key_of(self.step, self.name)

    @property
    def computes(self) -> bool:
        """Return True where the versions of torch, MACE and e3nn count."""
        return self.step in COMPUTE


def key_of(step: str, name: str = "") -> str:
    """Return what a job is called in a plan."""
    return f"{step}/{name}" if name else step


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
        yield self.split()
        if self.config.replay.file:
            yield self.replay()
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

    # --- data

    def split(self) -> Job:
        """Return the job that divides the data."""
        data, split = self.config.data, self.config.split
        files = {"data": Path(data.file)}
        files |= {f"test set {x.name}": Path(x.file) for x in data.test_sets}
        files |= {f"{name} set": Path(path) for name, path in given_files(split).items()}
        settings = _plain(split) | {key: getattr(data, key) for key in KEYS}
        settings["test_sets"] = [x.name for x in data.test_sets]
        if data.config_type_weights:
            settings["config_type_weights"] = dict(data.config_type_weights)
        return self.job("split", settings=settings, files=files)

    def replay(self) -> Job:
        """Return the job that chooses and labels structures for replay."""
        replay, data = self.config.replay, self.config.data
        settings = {k: getattr(replay, k) for k in ("labels", "num_samples", "seed")}
        settings |= {key: getattr(data, key) for key in KEYS} | self.base()
        files = {"replay": Path(str(replay.file))} | self.base_file()
        return self.job("replay", settings=settings, files=files)

    def e0s(self) -> Job:
        """Return the job that estimates E0s."""
        settings = _plain(self.config.e0s) | self.base() | {"dtype": self.of_all("default_dtype")}
        return self.job("e0s", settings=settings, files=self.base_file(), needs=("split",))

    # --- packs

    def train(self, pack: Pack) -> Job:
        """Return the job that trains a pack."""
        replays = pack.points[0].replays
        settings = self.base() | {
            "points": {x.name: x.settings.to_dict() for x in pack.points if x.settings},
            "failed": _times(self.layout.failed(pack.name)),
            "gpus": self.config.pack.gpus,
        }
        needs = ("split", "e0s", *(["replay"] if replays else []))
        return self.job("train", pack.name, settings=settings, files=self.base_file(), needs=needs)

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
        return self.job("check", pack.name, **self.checking(of_every_point(checks)), needs=needs)

    def checking(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return settings, code and files of some checks."""
        checks, data = self.config.checks, self.config.data
        given = checks.settings.given()
        own = {x: given[x] for x in names if given.get(x)}
        rows = {x: asdict(BY_NAME[x]) for x in names}
        keys = {key: getattr(data, key) for key in ("energy_key", "forces_key")}
        holdout = {"holdout": Path(checks.holdout_file)} if checks.holdout_file else {}
        code = ("lora.steps.check", *(BY_NAME[x].function for x in names))
        settings = {"names": list(names), "own": own, "rows": rows} | keys
        return {"settings": settings, "code": code, "files": holdout}

    # --- the whole sweep

    def every(self, *steps: str) -> tuple[str, ...]:
        """Return the jobs of some steps for every pack."""
        checked = of_every_point(self.config.checks)
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
        yield self.page("summary", self.judged(), decided)
        yield self.page("tables", points, ("choose", "split", "e0s"))
        yield self.page("figures", points, (*self.every("train", "evaluate"), "choose"))
        if any(x.cut_from for x in self.points.values()):
            yield self.page("rank_curve", points, ("choose",))
        if len(self.config.grid.train_fraction) > 1:
            yield self.page("data_size", points, ("choose",))

    def page(self, name: str, settings: dict[str, Any], needs: tuple[str, ...]) -> Job:
        """Return the job of one page."""
        code = ("lora.steps.report", f"lora.report.{name}:write")
        return self.job("report", name, settings=settings, needs=needs, code=code)

    def export(self) -> Job:
        """Return the job that writes and verifies files for engines."""
        rows = [ENGINES[name] for name in self.config.export.engines]
        model = known_foundation(self.config.foundation.model)
        settings = _plain(self.config.export) | {
            "files": {x.name: [x.suffix, list(x.modules)] for x in rows},
            "known": [model.licence, model.paper] if model else None,
        }
        named = dict.fromkeys(entry for x in rows for entry in (x.driver, x.writer))
        code = ("lora.steps.export", *named)
        return self.job("export", settings=settings, code=code, needs=("choose", "split"))

    def card(self) -> Job:
        """Return the job of the page on the exported model."""
        snippets = {name: ENGINES[name].snippet for name in self.config.export.engines}
        return self.page("card_page", {"snippets": snippets}, ("export",))

    def track(self) -> Job:
        """Return the job that fills MLflow."""
        settings = _plain(self.config.tracking) | {
            "points": [x.name for x in self.points.values() if not x.cut_from],
            "missed": _times(self.layout.missed),
        }
        settings.pop("live")  # turning it on retrains and logs nothing again
        pages = (key_of("report", "summary"), key_of("report", "figures"))
        needs = (*self.every("train", "merge", "evaluate", "check"), "choose", *pages)
        return self.job("track", settings=settings, needs=needs)

    # --- what several need

    def of_all(self, name: str) -> Any:
        """Return a setting that all trainings share."""
        return self.config.train.given().get(name, DEFAULTS[name])

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
        named = {} if self.base_file() else {"foundation": foundation.model}
        return named | {"head": foundation.head}

    def base_file(self) -> dict[str, Path]:
        """Return the file of the foundation model, where it is one."""
        path = Path(self.config.foundation.model)
        return {"foundation": path} if path.is_file() else {}


def defaults_of(job: Job) -> dict[str, Any]:
    """Return the default of every setting of trainings, for settings that came with a version."""
    return TrainSettings().to_dict() if job.step == "train" else {}


def _times(path: Path) -> int:
    """Return how often something failed, as a step has counted it."""
    from lora.files.sealed import read_json

    return int(read_json(path)["times"]) if path.is_file() else 0


def given_files(split: Split) -> dict[str, str]:
    """Return the validation and test files that the user gives, by the set that they are."""
    given = {"valid": split.valid_file, "test": split.test_file}
    return {name: path for name, path in given.items() if path}


def of_every_point(checks: Checks) -> tuple[str, ...]:
    """Return the checks that every point gets."""
    return checks.quick + checks.standard


def _plain(section: Section) -> dict[str, Any]:
    """Return the values of a section, defaults filled in, without its files."""
    values = section.model_dump(mode="json")
    return {k: v for k, v in values.items() if not k.endswith("_file")}
