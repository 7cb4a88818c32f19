"""Say what each job of a sweep depends on: settings, code, files of the user, other jobs.

A job is one command, `mace-lora STEP PLAN NAME`, and leaves one receipt.  What stands here decides
what runs again (see `lora.plan.freshness`), so a value that a step reads has to be named here.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lora.catalogue.checks import BY_NAME
from lora.catalogue.engines import BY_NAME as ENGINES
from lora.catalogue.foundations import terms_of
from lora.files.sealed import times_of
from lora.plan.bundles import bundles_of
from lora.plan.config import Config
from lora.plan.config_data import LABELS
from lora.plan.data_jobs import DataJobs, plain
from lora.plan.earlier import CARD, adapter_at
from lora.plan.job import Job, key_of
from lora.plan.layout import Layout
from lora.plan.packs import Leg, Pack
from lora.plan.points import FOUNDATION, PLAIN, Point
from lora.plan.race import Heat


def make_jobs(
    config: Config,
    points: dict[str, Point],
    packs: dict[str, Pack],
    layout: Layout,
    heats: dict[str, Heat],
) -> dict[str, Job]:
    """Return every job of a sweep by its key, each after those that it needs."""
    maker = _Maker(config, points, packs, layout, heats)
    return {job.key: job for job in maker.all()}


@dataclass(frozen=True)
class _Maker(DataJobs):
    heats: dict[str, Heat]

    def all(self) -> Iterator[Job]:
        """Yield the jobs in an order in which they could run."""
        yield self.foundation()
        yield self.split()
        if self.config.replay.file:
            yield self.replay()
        yield self.audit()
        yield self.e0s()
        if any(x.protocol.keep for x in self.points.values()):
            yield self.keep()
        yield from (self.train(x) for x in self.packs.values() if x.trains and not x.leg)
        yield from self.race()
        cuts = (x for x in self.points.values() if x.cut_from and not x.polished)
        yield from (self.truncate(point) for point in cuts)
        yield from (x for name in self.bundles for x in self.judging(name))
        yield from (self.shortlist(), self.thorough(), self.choose(), self.trust())
        yield from self.pages()
        yield from (self.export(), self.card(), self.track())

    # --- packs

    def train(self, pack: Pack) -> Job:
        """Return the job that trains a pack: of a race, from one rung to the next."""
        leg = pack.leg
        settings = self.base() | {
            "points": {x: _values(point) for x, point in _named(pack).items()},
            "failed": times_of(self.layout.failed(pack.name)),
            "gpus": self.config.pack.gpus,
        }
        settings |= {"until": leg.until} if leg else {}
        files = self.base_file() | _start_of(pack)
        parts = {"settings": settings, "files": files, "after": ("audit",)}
        needs = ["split", "e0s", *pack.protocol.names]
        needs += [key_of("rung", str(leg.number - 1))] if leg and leg.number > 1 else []
        needs += self.ends(leg) if leg and leg.polishes else []
        return self.job("train", pack.name, needs=tuple(needs), **parts)

    def ends(self, leg: Leg) -> list[str]:
        """Return the jobs that train what the points of a pack are cut from."""
        same = (leg.heat, leg.number, leg.seed, False)
        legs = {name: pack.leg for name, pack in self.packs.items() if pack.leg}
        return [
            key_of("train", name)
            for name, x in legs.items()
            if (x.heat, x.number, x.seed, x.polishes) == same
        ]

    def race(self) -> Iterator[Job]:
        """Yield the jobs of a race: the legs, each with the rung that it ends at."""
        legs = [x for x in self.packs.values() if x.leg]
        for number in sorted({x.leg.number for x in legs if x.leg}):
            packs = [x for x in legs if x.leg and x.leg.number == number]
            yield from (self.train(pack) for pack in packs)
            if not packs[0].ends:
                yield from [self.probe(number, packs)] if self.config.race_checks else []
                yield self.rung(number, packs)

    def probe(self, number: int, packs: list[Pack]) -> Job:
        """Return the job that checks the models at a rung."""
        parts = self.checking(self.config.race_checks)
        parts["settings"] |= self.base() | {"dtype": self.of_all("default_dtype")}
        parts["files"] |= self.base_file()
        parts["code"] += ("lora.steps.probe",)
        needs = ("split", "e0s", *(key_of("train", x.name) for x in packs))
        return self.job("probe", str(number), needs=needs, **parts)

    def rung(self, number: int, packs: list[Pack]) -> Job:
        """Return the job that compares the settings at a rung, and packs those that go on."""
        after = [x for x in self.packs.values() if x.leg and x.leg.number == number + 1]
        rules = self.config.rules
        settings = {
            "rules": asdict(rules) if rules else {},
            "metric": self.config.select.metric,
            "groups": {heat.name: list(heat.groups) for heat in self.heats.values()},
            "packs": {x.name: x.places for x in after},
        }
        needs = [key_of("train", x.name) for x in packs]
        needs += [key_of("rung", str(number - 1))] if number > 1 else []
        if self.config.race_checks:
            settings["limits"] = self.config.select.limits.given()
            needs.append(key_of("probe", str(number)))
        return self.job("rung", str(number), settings=settings, needs=tuple(needs))

    def truncate(self, point: Point) -> Job:
        """Return the job that cuts an adapter."""
        assert point.settings is not None
        settings = self.base() | {"rank": point.settings.rank}
        needs = (key_of("train", self.pack_of(point.cut_from)),)
        files = self.base_file()
        return self.job("truncate", point.name, settings=settings, files=files, needs=needs)

    # --- bundles of packs

    @cached_property
    def bundles(self) -> dict[str, list[Pack]]:
        """Return the packs of every bundle."""
        return bundles_of(self.packs)

    def judging(self, bundle: str) -> Iterator[Job]:
        """Yield the jobs that find out what the models of a bundle are worth."""
        yield from (self.merge(bundle), self.evaluate(bundle), self.check(bundle))

    def merge(self, bundle: str) -> Job:
        """Return the job that merges adapters, or sets the foundation model's E0s."""
        packs = self.bundles[bundle]
        made = [key_of("train", x.name) for x in packs if x.trains]
        points = [point for pack in packs for point in pack.points]
        made += [key_of("truncate", x.name) for x in points if x.cut_from and not x.polished]
        settings = self.base() | {"points": [x for pack in packs for x in _named(pack)]}
        if FOUNDATION in points:
            settings["dtype"] = self.of_all("default_dtype")
        needs = ("split", "e0s", *made)
        return self.job("merge", bundle, settings=settings, files=self.base_file(), needs=needs)

    def evaluate(self, bundle: str) -> Job:
        """Return the job that evaluates a bundle's models."""
        settings = {"batch_size": self.of_all("valid_batch_size")}
        needs = ("split", key_of("merge", bundle))
        return self.job("evaluate", bundle, settings=settings, needs=needs)

    def check(self, bundle: str) -> Job:
        """Return the job that checks a bundle's models."""
        checks = self.config.checks
        needs = ("split", "e0s", key_of("merge", bundle))
        return self.job("check", bundle, **self.checking(checks.of_every_point), needs=needs)

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
        """Return the jobs of some steps for every pack that trains, or every bundle."""
        trained = [x.name for x in self.packs.values() if x.trains]
        checked = self.config.checks.of_every_point
        return tuple(
            key_of(step, name)
            for step in steps
            for name in (trained if step == "train" else self.bundles)
            if step != "check" or checked
        )

    @property
    def trained(self) -> tuple[str, ...]:
        """Return the jobs that say what trained: trainings, and the rungs of a race."""
        legs = (x.leg for x in self.packs.values() if x.leg)
        rungs = sorted({leg.number for leg in legs if leg.until is not None})
        return (*self.every("train"), *(key_of("rung", str(x)) for x in rungs))

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
        needs = (*self.trained, *self.every("evaluate", "check"))
        return self.job("shortlist", settings=settings, needs=needs)

    def thorough(self) -> Job:
        """Return the job of the long checks."""
        parts = self.checking(self.config.checks.thorough)
        return self.job("thorough", **parts, needs=("split", "e0s", "shortlist"))

    def choose(self) -> Job:
        """Return the job that makes the table and chooses."""
        long = ["thorough"] if self.config.checks.thorough else []
        needs = (*self.trained, *self.every("evaluate", "check"), *long)
        return self.job("choose", settings=self.judged(), needs=needs)

    def trust(self) -> Job:
        """Return the job that calibrates bounds of the chosen model's force errors."""
        settings = {
            "coverage": self.config.trust.coverage,
            "batch_size": self.of_all("valid_batch_size"),
            "committee": [x.name for x in self.committee],
        }
        needs = ("split", *self.trained, *self.every("evaluate"), "choose")
        return self.job("trust", settings=settings, needs=needs)

    def pages(self) -> Iterator[Job]:
        """Yield the jobs of the report, a page each."""
        points = {"points": list(self.points)}
        if self.committee:
            settings = {"points": [x.name for x in self.committee]}
            yield self.page("committee", settings, (*self.trained, *self.every("evaluate")))
        committee = [key_of("report", "committee")] if self.committee else []
        decided = (*self.trained, *self.every("evaluate", "check"), "choose", *committee)
        needs = ("split", "audit", "e0s", *decided, "trust")
        exports = {"exports": bool(self.config.export.engines)}
        yield self.page("summary", self.judged() | self.terms() | exports, needs)
        yield self.page("audit_page", {}, ("audit",))
        yield self.page("trust_page", {}, ("trust",))
        yield self.page("tables", points, ("choose", "split", "e0s"))
        drawn = (*self.trained, *self.every("evaluate"), "choose")
        yield self.page("figures", points, drawn)
        judged = (*self.trained, *self.every("evaluate", "check"), "choose")
        yield self.page("dashboard", self.judged(), ("split", *judged))
        yield self.page("errors_page", points, drawn)
        if self.heats:
            yield self.page("race_page", self.judged(), judged)
        if self.config.rank_curve and any(x.cut_from for x in self.points.values()):
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
        settings = plain(self.config.export) | self.terms()
        settings["files"] = {x.name: [x.suffix, list(x.modules)] for x in rows}
        named = dict.fromkeys(entry for x in rows for entry in (x.driver, x.writer))
        code = ("lora.steps.export", *named)
        parts = {"settings": settings, "code": code, "files": self.base_file()}
        return self.job("export", **parts, needs=("choose", "trust", "split", "audit", "e0s"))

    def card(self) -> Job:
        """Return the job of the page on the exported model."""
        snippets = {name: ENGINES[name].snippet for name in self.config.export.engines}
        return self.page("card_page", {"snippets": snippets}, ("export",))

    def track(self) -> Job:
        """Return the job that fills MLflow."""
        settings = plain(self.config.tracking) | {
            "points": [x.name for x in self.points.values() if x.trains or not x.settings],
            "missed": times_of(self.layout.missed),
        }
        settings.pop("live")  # turning it on retrains and logs nothing again
        pages = [job.key for job in self.pages()]
        needs = (*self.trained, *self.every("merge", "evaluate", "check"), "choose", *pages)
        code = (
            "lora.steps.track",
            "lora.export.mace_pyfunc",
        )  # which MLflow takes beside the model
        return self.job("track", settings=settings, needs=needs, code=code)

    # --- what several need

    def terms(self) -> dict[str, Any]:
        """Return which foundation model is used, on which terms, as far as config and name say."""
        foundation = self.config.foundation
        return self.base() | {"terms": asdict(terms_of(foundation.model, foundation.licence))}

    @property
    def committee(self) -> list[Point]:
        """Return the LoRA points on all data and on nothing else; one alone has no spread."""
        found = [
            x
            for x in self.points.values()
            if x.is_lora and x.protocol == PLAIN and x.peers.share == 1
        ]
        return found if len(found) > 1 else []

    def pack_of(self, point: str) -> str:
        """Return the pack of a point."""
        return next(x.name for x in self.packs.values() if point in [p.name for p in x.points])


def _values(point: Point) -> dict[str, Any] | None:
    """Return the settings of a point as JSON, without the place of a file, whose content counts."""
    values = point.values()
    return values | {"start_from": None} if values else None


def _start_of(pack: Pack) -> dict[str, Path]:
    """Return the adapter that points of a pack, all of one kind, go on from."""
    found = next(
        (x.settings.start_from for x in pack.points if x.settings and x.settings.goes_on), ""
    )
    return {"start": (adapter_at(found) or Path(found)) / CARD} if found else {}


def _named(pack: Pack) -> dict[str, Point]:
    """Return the points of a pack that its settings name; who goes on in a race, a rung says."""
    return {} if pack.leg and pack.leg.number > 1 else {x.name: x for x in pack.points}
