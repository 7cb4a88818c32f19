"""One training from its files to its files: of a point, or of a pack of points.

    session = Session(inputs, stop).load()
    results = session.resume().run().save()

A session that breaks off is written down by `fail`, from its checkpoint.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.data import chemical_symbols

from lora.catalogue.columns import SYSTEM
from lora.catalogue.endings import Ending
from lora.data.held import joined, only
from lora.data.structures import elements_of, is_isolated_atom, load_structures
from lora.errors import Paused, UserError
from lora.files.provenance import facts
from lora.files.sealed import digest, read_json
from lora.mace.conditions import say_conditions
from lora.mace.device import check_device
from lora.mace.elements import with_e0s
from lora.mace.fast.convolution import message_width
from lora.mace.foundation import fingerprint, load_foundation
from lora.mace.graphs import graphs
from lora.mace.heads import two_heads
from lora.mace.kernels import to_kernel
from lora.mace.modules import count_parameters
from lora.training import parts
from lora.training.capacity import fit_cache, fit_memory
from lora.training.checkpoint import FILE, read_checkpoint
from lora.training.course import Course
from lora.training.distributed import is_first, join_others
from lora.training.elastic import holding
from lora.training.inputs import Inputs
from lora.training.interrupt import Interrupt
from lora.training.loop import Fit
from lora.training.progress import Progress
from lora.training.reminders import Reminders
from lora.training.results import ADAPTER, peak_memory, results_of, write_history, write_result
from lora.training.setup import common, nested, padded
from lora.training.starts import start_digest, starts_of
from lora.training.state import TrainingState
from lora.training.terms import check_terms, say_rounding
from lora.training.trainees import make_trainee
from lora.training.usage import Usage

log = logging.getLogger(__name__)

SAVE_EVERY = 600.0  # seconds between checkpoints within a long epoch


class Session:
    """A training of some points over one foundation model, each as it would train alone.

    Args:
        inputs: What is trained, and on what.
        stop: Says when to stop early.
    """

    def __init__(self, inputs: Inputs, stop: Interrupt) -> None:
        self.inputs, self.stop = inputs, stop
        self.folders = list(inputs.points)
        self.checkpoint = inputs.work / FILE
        self.keys: list[str] = []
        self.own: list[str] = []  # as `keys`, whoever trains beside a point
        self.running: list[TrainingState] = []
        self.saved = time.monotonic()

    # --- from top to bottom

    def load(self) -> "Session":
        """Read settings, structures and the foundation model.

        Raises:
            UserError: Settings that do not fit together or to the data, or a file that is missing.
        """
        files = self.inputs.files
        self.settings = [one.resolved() for one in self.inputs.points.values()]
        self.shared = s = common(self.settings)
        self.device = join_others(s.device)
        check_device(self.device)
        self.usage = Usage(str(self.device))
        torch.backends.cuda.matmul.allow_tf32 = s.allow_tf32
        self.train, self.valid = _without_atoms(files.train), _without_atoms(files.valid)
        self.reminders = Reminders.of(s, files)
        for one in {(x.loss, x.terms): x for x in self.settings}.values():
            check_terms(one, self.train, self.valid, files.train, self.reminders.every)
        self.seen = joined(self.train, self.valid)
        say_rounding(self.seen, s.default_dtype)
        base = self.inputs.base
        self.base = load_foundation(base.model, base.head, getattr(torch, s.default_dtype))
        self.base_digest = fingerprint(self.base)
        for line in say_conditions(self.base, self.seen):
            log.warning(line)
        self._set_keys()
        return self

    def made_before(self) -> list[dict[str, Any]]:
        """Return what an earlier run has left of this part of a race, and train only the rest."""
        if not self.inputs.part.take:
            return []
        made = parts.made(self.folders, map(self._part_key, self.own))
        left = [i for i, out in enumerate(self.folders) if out not in made]
        self.folders = [self.folders[i] for i in left]
        self.settings = [self.settings[i] for i in left]
        if left:
            self._set_keys()  # the highest rank may be another
        return list(made.values())

    def made_meanwhile(self) -> list[dict[str, Any]]:
        """Return the results, if another process has just made them; else []."""
        return results_of(self.folders, self._named())

    def resume(self) -> "Session":
        """Build the model, and go on from the checkpoint, if there is one."""
        self._build(self.device)
        fit, part = self.fit, self.inputs.part
        fit.notes["machine"] = facts(self.shared.device)
        fit.until = part.until
        if not fit.resume(self.checkpoint):
            if self.shared.device.startswith("cuda"):
                fit_memory(fit)
            else:
                fit_cache(fit, message_width(self.model))
        for i, (out, point) in enumerate(zip(self.folders, self.running, strict=True)):
            if out in part.begun and point.epoch < 0:  # the checkpoint does not have it
                parts.begin(part.begun[out], i, self.trainee, point, self.own[i])
        if part.begun and all(point.epoch >= 0 for point in self.running):
            self._save_checkpoint()  # what to go by, should the first epoch crash
        return self

    def run(self) -> "Session":
        """Train to the end, with a checkpoint at every epoch, every `SAVE_EVERY` and at a stop.

        In a race, to the end of the part, where the state of each point is left.

        Raises:
            Paused: It stopped early, with a checkpoint.
            UserError: The data, or no room in memory.
        """
        with Progress(self.shared.max_num_epochs) as self.progress:
            try:
                self.fit.run(self._each_epoch, self._each_step)
            except Paused:
                if not self.stop.lost():
                    self._save_checkpoint()
                raise
        if self.inputs.part.until is not None:
            self._leave(range(len(self.running)))
            self.fit.load_best()
        return self

    def save(self) -> list[dict[str, Any]]:
        """Write adapters and train.json of all points.  Return the contents of each train.json.

        Raises:
            UserError: Points have failed, and this is not the last try.
        """
        if not is_first():
            return []
        named = zip(self.folders, self.running, strict=True)
        failed = {out.name: point.reason for out, point in named if point.failed}
        if failed and not self.inputs.limits.give_up:
            raise UserError("; ".join(f"{name}: {why}" for name, why in failed.items()))
        notes = self._notes()
        return [self._write(i, point, notes) for i, point in enumerate(self.running)]

    def fail(self, why: str) -> list[dict[str, Any]]:
        """Write down a session that broke off, from its checkpoint alone.

        Points that had not ended have failed: no model of them is built or kept.  Those that had
        ended before keep their best weights, which a model on the CPU takes from the checkpoint,
        because a GPU may be of no use after a crash.  What is not in the checkpoint has no epoch.

        Args:
            why: What stands in train.json.

        Returns:
            The contents of each train.json.
        """
        if not self.keys:  # it broke off while it read its files
            every = [(out, Course(one)) for out, one in self.inputs.points.items()]
            for _, course in every:
                course.fail(why)
            return [write_result(out, course, {}) for out, course in every]
        state = read_checkpoint(self.checkpoint, "cpu")
        named = list(zip(self.keys, self.settings, strict=True))
        courses = {x: Course.of(s, state[x]) if x in state else Course(s) for x, s in named}
        alone = zip(self.keys, self.running, strict=False)  # failed before the crash
        courses |= {key: point for key, point in alone if point.failed}
        for course in courses.values():
            if not course.rests(self.inputs.part.until):
                course.fail(why)
        if not all(course.failed for course in courses.values()):
            self._build("cpu", start=False)  # where adapters start is of no use
            for i, key in enumerate(self.keys):
                if key in state:
                    self.running[i].load_state(state[key])
                    self._leave([i] if not courses[key].failed else [])
                    self.running[i].load_best()
        notes = state.get("notes", {})
        return [self._write(i, courses[key], notes) for i, key in enumerate(self.keys)]

    # --- the parts of it

    def _set_keys(self) -> None:
        """Make digests of what each training is of: settings, foundation model, data."""
        files = self.inputs.files
        e0s = json.dumps(read_json(files.e0s)["E0s"], sort_keys=True)  # not what they are made of
        structures = digest(files.train, files.valid, *self.reminders.files)
        self.data_digest = _digest(f"{structures} {e0s}")
        rank = padded(self.settings)
        digests = " ".join([self.base_digest, self.data_digest])
        texts = [
            json.dumps(asdict(replace(one, start_from=None)), sort_keys=True)
            + start_digest(one, self.inputs.part.cut.get(x))
            for x, one in zip(self.folders, self.settings, strict=True)
        ]
        self.keys = [_digest(f"{text}{rank} {digests}") for text in texts]
        self.own = [_digest(f"{text}{digests}") for text in texts]

    def _named(self) -> list[str]:
        """Return the keys by which others know the trainings; packs of a race come and go."""
        return self.own if self.inputs.limits.part else self.keys

    def _part_key(self, own: str) -> str:
        """Return a digest of a part of a training and of the code that trains it."""
        part = self.inputs.part
        return _digest(f"{own} {part.until} {part.code}")

    def _leave(self, places: Iterable[int]) -> None:
        """Leave the states of some points at a rung of a race, in the first process."""
        if self.inputs.part.until is None or not is_first():
            return
        for i in places:
            if not (point := self.running[i]).failed:
                parts.leave(self.folders[i], i, self.trainee, point, self.own[i])

    def _build(self, device: str, start: bool = True) -> None:
        """Make the model with its new E0s on the data's elements, its graphs, and their `Fit`."""
        s = self.shared
        self.full = two_heads(self.base) if s.replay else self.base
        everything = joined(self.seen, self.reminders.every)
        e0s = read_json(self.inputs.files.e0s)["E0s"]
        self.model = with_e0s(self.full, elements_of(everything), e0s)
        if s.enable_cueq:
            self.model = to_kernel(self.model, "cueq", device)
        self.model.to(device)
        before = count_parameters(self.model)[1]
        share = nested(self.train, s.train_fraction, s.seed)
        train = graphs(joined(share, self.reminders.every), self.model)
        valid = graphs(self.valid, self.model)
        cuts = [self.inputs.part.cut.get(x) for x in self.folders]
        starts = starts_of(self.settings, cuts, self.base, train) if start else []
        kept = graphs(self.reminders.kept, self.model) if start and s.keep_penalty else []
        hold = holding(s, kept) if kept else None
        self.trainee, counted = make_trainee(self.model, self.settings, starts, hold)
        trainee = self.trainee
        trained, decayed, fast = trainee.trained(), trainee.decayed(), trainee.b_factors()
        points = zip(trained, self.settings, decayed, fast, strict=True)
        self.running = [TrainingState(*point) for point in points]
        self.fit = Fit(self.trainee, self.running, train, valid, self.keys)
        self.fit.notes = {
            "base_fingerprint": self.base_digest,
            "data_digest": self.data_digest,
            "parameters_before": before,
            "parameters": counted,
            "n_train": len(share),
            "n_valid": len(self.valid),
            "n_replay": len(self.reminders.replayed),
            "n_keep": len(self.reminders.kept) if self.reminders.trains else 0,
        }

    def _each_step(self) -> None:
        """Stop where there is a reason to, and save within a long epoch."""
        self.stop.check()
        if time.monotonic() - self.saved > SAVE_EVERY:
            self._save_checkpoint()

    def _each_epoch(self, points: list[TrainingState]) -> None:
        """Save and show what the points have just done, and stop where there is a reason to."""
        used = self.usage.since()
        for point in points:
            point.history[-1].setdefault(SYSTEM, used)
        self._save_checkpoint()
        for point in points if is_first() else []:
            i = self.running.index(point)
            out = self.folders[i]
            write_history(out, point)
            self.progress.show(out.name, point.history)
            if self.inputs.watch:
                self.inputs.watch(out.name, self._named()[i], point.settings, point.history[-1])
        self.stop.check()

    def _save_checkpoint(self) -> None:
        """Write the checkpoint, in the first process."""
        if is_first():
            self.fit.notes = self._notes()
            self.fit.save(self.checkpoint)
        self.saved = time.monotonic()

    def _notes(self) -> dict[str, Any]:
        """Return what train.json says of all points, as it stands now."""
        now = {"pack_size": self.fit.together, "peak_memory_mb": peak_memory(self.shared.device)}
        return self.fit.notes | now

    def _write(self, i: int, point: Course, notes: dict[str, Any]) -> dict[str, Any]:
        """Write the adapter of a point that did not fail, and its train.json."""
        out, spectra = self.folders[i], {}
        if point.ended() != Ending.FAILED:
            names = [chemical_symbols[z] for z in elements_of(self.seen)]
            card = {"base_name": self.inputs.base.called, "best_epoch": point.best_epoch}
            folder = out / ADAPTER
            spectra = self.trainee.save(i, point.settings, self.full, folder, names, card)
        counted = {}
        if "parameters" in notes:
            names_of = ("trainable_parameters", "total_parameters")
            counted = dict(zip(names_of, notes["parameters"][i], strict=True))
        shared = {name: value for name, value in notes.items() if name != "parameters"}
        shared |= {"key": self._named()[i]}
        if self.inputs.limits.part:
            shared |= {"part": self._part_key(self.own[i]), "rung": self.inputs.part.rung}
        return write_result(out, point, counted | shared | spectra)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_atoms(path: str | Path) -> Sequence[Atoms]:
    """Return the structures of a set, without its free atoms."""
    return only(load_structures(path), lambda atoms: not is_isolated_atom(atoms))
