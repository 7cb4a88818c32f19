"""Resolve a config once into everything that a sweep is: points, packs, jobs, paths, limits.

The main process of snakemake makes the plan while it reads the rules, and writes it to plan.json;
every command of the sweep reads it there.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lora.errors import UserError, UserErrors, trouble
from lora.files.sealed import read_json, write_sealed
from lora.plan.bundles import bundles_of, in_bundles
from lora.plan.checking import resolve
from lora.plan.cluster import Forecast, Times, check_profile, minutes_of, race_line
from lora.plan.config import Config
from lora.plan.finished import failed, finished
from lora.plan.freshness import Files, Verdict, judge, mark
from lora.plan.identity import enter, id_of, left_out, remember
from lora.plan.job import Job
from lora.plan.jobs import make_jobs
from lora.plan.labels import check_data_keys
from lora.plan.layout import Layout
from lora.plan.packs import Leg, Pack, gone, make_packs, on_gpu
from lora.plan.points import Point, make_points
from lora.plan.race import Heat, fill, heats_of, race_packs, raced, stops
from lora.plan.start import Start
from lora.plan.words import few


@dataclass(frozen=True)
class Sweep:
    """One sweep.

    points:  by name: LoRA, baselines, foundation model, cuts
    packs:   by name: who shares a process
    minutes: of a training job on a cluster, by pack; {} on one machine
    cores:   places for which a race was laid out; later starts keep its packs
    forced:  rules that the user asked for, once they are known
    running: receipts that are made anew by this start
    """

    config: Config
    points: dict[str, Point]
    packs: dict[str, Pack]
    minutes: dict[str, int] = field(default_factory=dict)
    cores: int = 1
    forced: set[frozenset[str]] = field(default_factory=set, compare=False, repr=False)
    running: set[str] = field(default_factory=set, compare=False, repr=False)

    @classmethod
    def from_config(
        cls, config: Config, earlier: Mapping[str, Any] | None = None, cores: int = 1
    ) -> "Sweep":
        """Resolve a config.

        Args:
            config: the config
            earlier: the plan of an earlier start, whose packs stay where they are trained
            cores: how many trainings can run at a time
        """
        earlier = earlier or {}
        points = make_points(config)
        heats = heats_of(config, points)
        racing = raced(heats)
        single = {x: point for x, point in points.items() if x not in racing}
        packs = make_packs(config, single, dict(earlier.get("packs", {})), cores)
        cores = earlier.get("cores", cores) if earlier.get("legs") else cores
        layout = Layout(Path(config.results))
        packs |= fill(race_packs(config, heats, cores), points, layout)
        packs = in_bundles(packs, earlier.get("bundles", {}), layout)
        return cls(config, points, packs, cores=cores)

    @classmethod
    def begin(cls, raw: dict[str, Any], start: Start) -> "Sweep":
        """Make the plan in snakemake's main process, say it, and write it; in a job read it.

        Raises UserError: the config, a place of the profile that was not filled in, a results
        folder of another version, or trainings that only changed code would repeat.
        """
        if not start.main:
            results = raw.get("results", Config.model_fields["results"].default)
            return cls.load(Layout(Path(results)).plan)
        start.refuse_strange()
        config, warnings = resolve(raw, folder=Path.cwd())
        if wrong := check_data_keys(config):
            raise UserErrors(wrong)
        layout = Layout(Path(config.results))
        check_profile(start.resources, start.of_rules)
        whole = enter(layout, start)
        earlier = read_json(layout.plan) if layout.plan.is_file() else {}
        sweep = cls.from_config(config, earlier, start.places)
        times = Times.of(layout, sweep.packs)
        if start.nodes is not None:
            sweep = replace(sweep, minutes=minutes_of(sweep.packs, times, layout))
        files = Files(earlier.get("files"))
        verdicts = sweep.judge(files)
        forecast = Forecast.of(sweep.packs, verdicts, times)
        if not start.locked:
            sweep.refuse_upgrade(forecast)
            sweep.write(verdicts, files, start.dry)
            remember(layout, whole)
        sweep.note(verdicts)
        said = [forecast.line(sweep.device) + sweep.asked(forecast, start)]
        running = {pack.leg.heat for pack in forecast.packs if pack.leg}
        heats = [heat for name, heat in sweep.heats.items() if name in running]
        said += [race_line(x, times, sweep.device) for x in heats] + left_out(earlier, sweep.points)
        print(*warnings, *said, sep="\n", file=sys.stderr)
        return sweep

    @classmethod
    def begin_or_exit(cls, raw: dict[str, Any], start: Start) -> "Sweep":
        """Make the plan; end the process with the mistakes of the user, a line each."""
        try:
            return cls.begin(raw, start)
        except UserError as error:
            sys.exit(str(error))

    @classmethod
    def load(cls, path: str | Path) -> "Sweep":
        """Read a plan; its results are where it lies, whatever the config called the folder.

        Raises UserError: it is missing or damaged.
        """
        found = read_json(path)
        config = Config.model_validate(found["config"] | {"results": str(Path(path).parent)})
        points = make_points(config)
        legs = {name: Leg(**leg) for name, leg in found.get("legs", {}).items()}
        packs = {
            name: Pack(
                name,
                tuple(points.get(x) or gone(x, s) for x, s in members.items()),
                trains,
                legs.get(name),
            )
            for name, (trains, members) in found["members"].items()
        }
        layout, alone = Layout(Path(config.results)), {x: x for x in packs}  # before bundles
        packs = in_bundles(fill(packs, points, layout), found.get("bundles", alone), layout)
        return cls(config, points, packs, found["minutes"], found.get("cores", 1))

    def write(self, verdicts: dict[str, Verdict], files: Files, dry: bool) -> None:
        """Set the marks and, where jobs will run, write the plan.

        Raises UserError: a file cannot be written.
        """
        try:
            mark(self.jobs, verdicts, self.layout, dry)
            if not dry:
                id_of(self.layout)
                self.save(files)
        except OSError as error:
            raise UserError(f"plan: {trouble(error)}; run it again when that is mended") from None

    def save(self, files: Files) -> None:
        """Write the plan, whole or not at all."""
        settings = {
            name: {x.name: x.values() for x in pack.points} for name, pack in self.packs.items()
        }
        content = {
            "config": self.config.to_dict(),
            "packs": {
                x: members
                for x, members in settings.items()
                if self.packs[x].trains and not self.packs[x].leg
            },
            "legs": {x: asdict(pack.leg) for x, pack in self.packs.items() if pack.leg},
            "members": {x: [self.packs[x].trains, members] for x, members in settings.items()},
            "bundles": {x: pack.bundle for x, pack in self.packs.items() if pack.bundle},
            "minutes": self.minutes,
            "cores": self.cores,
            "files": files.known,
        }
        write_sealed(self.layout.plan, content)

    @cached_property
    def layout(self) -> Layout:
        """Return the paths of the results folder."""
        return Layout(Path(self.config.results))

    @cached_property
    def jobs(self) -> dict[str, Job]:
        """Return every job by its key."""
        return make_jobs(self.config, self.points, self.packs, self.layout, self.heats)

    def judge(self, files: Files, forced: Iterable[str] = ()) -> dict[str, Verdict]:
        """Return which jobs run, and why."""
        return judge(self.jobs, files, forced, self.config.on_upgrade == "keep")

    def refuse_upgrade(self, forecast: Forecast) -> None:
        """Raise UserError where changed code alone would train points again, unless asked for."""
        again = forecast.upgraded
        if not again or self.config.on_upgrade != "ask":
            return
        what = {forecast.points[x].what for x in again} - {""}
        raise UserError(
            f"upgrade: {', '.join(sorted(what)) or 'the code of trainings has changed'}; "
            f"{len(again)} trained points would be trained again, about "
            f"{forecast.hours(again):.2f} {self.device} hours: {few(again)}. "
            "Set on_upgrade: retrain to do that, or on_upgrade: keep to keep them "
            "(--config on_upgrade=keep)"
        )

    # --- what the rules ask

    @property
    def device(self) -> str:
        """Return what trains, as hours are counted."""
        return "GPU" if on_gpu(self.config) else "CPU"

    @property
    def gpus(self) -> int:
        """Return the GPUs of one training."""
        return self.config.pack.gpus if on_gpu(self.config) else 0

    @property
    def train_program(self) -> str:
        """Return what starts a training: the command, or torchrun with a process a GPU."""
        processes = self.config.pack.gpus
        if processes == 1:
            return "mace-lora"
        return f"torchrun --standalone --nproc_per_node {processes} -m lora.cli"

    @property
    def trained_packs(self) -> list[str]:
        """Return the packs that train."""
        return [x.name for x in self.packs.values() if x.trains]

    @property
    def cuts(self) -> dict[str, Point]:
        """Return the points that are cut from others, and not trained after that."""
        return {x.name: x for x in self.points.values() if x.cut_from and not x.polished}

    @property
    def trained_points(self) -> dict[str, Point]:
        """Return the points that train."""
        return {x.name: x for x in self.points.values() if x.trains}

    @property
    def tracked(self) -> list[str]:
        """Return the points that MLflow gets a run of."""
        began = [x for x in self.points.values() if x.name not in self.cuts and self.began(x.name)]
        whole = {x.cut_from: self.pack_of[x.cut_from] for x in began if x.polished}
        lost = {x for x, pack in whole.items() if failed(self.layout.receipt("train", pack), x)}
        return [x.name for x in began if x.cut_from not in lost]

    @cached_property
    def heats(self) -> dict[str, Heat]:
        """Return the races of the sweep, one a method, by name; none where all train to the end."""
        return heats_of(self.config, self.points)

    @cached_property
    def stopped(self) -> dict[str, int]:
        """Return the points that a race has stopped, with the rung; 0 for those never begun."""
        return stops(self.heats, self.layout)

    def began(self, point: str) -> bool:
        """Return False for a point that a race has stopped before it began."""
        return self.stopped.get(point) != 0

    def training(self, point: str) -> Path:
        """Return the folder in which a training ended: at a rung, or as a whole."""
        return self.layout.training(point, self.stopped.get(point, 0))

    @cached_property
    def pack_of(self) -> dict[str, str]:
        """Return the pack of every point; in a race the last that it has come to."""
        return {x.name: pack.name for pack in self.packs.values() for x in pack.points}

    def bundle_of(self, point: str) -> str:
        """Return the bundle of a point that trains to the end."""
        return self.packs[self.pack_of[point]].bundle

    def sound(self, bundle: str) -> list[str]:
        """Return the points of a bundle that have a model: whose training did not fail, and cuts.

        Raises UserError: the receipt of a training is missing or damaged.
        """
        members = [x for pack in bundles_of(self.packs)[bundle] for x in pack.points]
        return [x.name for x in members if self.is_sound(x)]

    def is_sound(self, point: Point) -> bool:
        """Return False for a point whose training, or that of what it is cut from, failed."""
        pack = self.packs[self.pack_of[point.source]]
        return not pack.trains or point.source in finished(self.layout.receipt("train", pack.name))

    def needs(self, step: str, name: str = "") -> list[str]:
        """Return the files that a job reads: of the user, and receipts of other jobs.

        Of a job that runs, also the receipts of those that have to be done before.  One that does
        not run must not follow them: snakemake would run it again.  Nor must it ask for a
        foundation model that is not there yet: snakemake would run what waits for it, ancient or
        not.
        """
        job = self.jobs[f"{step}/{name}" if name else step]
        runs = str(job.receipt) in self.running
        files = [str(x) for x in job.files.values() if runs or x.exists()]
        before = job.after if runs else ()
        return files + [str(self.jobs[x].receipt) for x in (*job.needs, *before)]

    def mark(self, step: str, name: str = "") -> list[str]:
        """Return the mark of a job; [] where nothing ever ran, in a dry run."""
        path = self.layout.mark(step, name)
        return [str(path)] if path.is_file() else []

    def targets(self) -> list[str]:
        """Return the receipts that a whole sweep ends with, and that of the foundation model."""
        exports = bool(self.config.export.engines)
        last = [x for x in self.jobs.values() if x.step in ("foundation", "report", "track")]
        return [str(x.receipt) for x in last if exports or x.name != "card_page"]

    def asked(self, forecast: Forecast, start: Start) -> str:
        """Return what the jobs ask a cluster for; "" on one machine."""
        if start.nodes is None or not forecast.packs:
            return ""
        hours = sum(self.minutes[pack.name] for pack in forecast.packs) / 60
        return (
            f"; at most {start.nodes} jobs at a time, limits of {hours:.0f} hours in all "
            "(pack.size in the config: more points a job, fewer GPUs)"
        )

    def time_limit(self, pack: str, attempt: int) -> int:
        """Return the minutes of a try of a training, more at each; 0, no limit, on one machine."""
        return self.minutes.get(pack, 0) * attempt

    def force(self, rules: frozenset[str], start: Start) -> None:
        """Mark what follows from rules that the user wants to run again (snakemake -R)."""
        if rules and start.main and not start.locked and rules not in self.forced:
            self.forced.add(rules)
            verdicts = self.judge(Files(), rules)
            mark(self.jobs, verdicts, self.layout, start.dry)
            self.note(verdicts)

    def note(self, verdicts: dict[str, Verdict]) -> None:
        """Keep in `running` which receipts are made anew: snakemake looks at their dates alone."""
        self.running.update(str(self.jobs[x].receipt) for x, v in verdicts.items() if v.runs)

    def note_tries(self, tries: int) -> None:
        """Write down how often a job is tried: jobs on a cluster are not told."""
        if self.tries != tries:
            write_sealed(self.layout.tries, {"tries": tries})

    @property
    def tries(self) -> int:
        """Return how often a job is tried; 0 where no sweep has begun."""
        path = self.layout.tries
        return int(read_json(path)["tries"]) if path.is_file() else 0
