"""Spell every path of a results folder, in one place.

Steps that work on packs leave one receipt a pack, and files a point; all other steps leave one
receipt.  A receipt is a sealed JSON file that says what was made, and from what.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from lora.errors import UserError
from lora.files.sealed import RECEIPT_FINDERS

BY_PACK = ("train", "merge", "evaluate", "check")
RECEIPTS = {
    "foundation": "foundation/foundation.json",
    "split": "data/split.json",
    "replay": "replay/replay.json",
    "audit": "audit/audit.json",
    "e0s": "e0s/e0s.json",
    "keep": "keep/keep.json",
    "shortlist": "check/shortlist.json",
    "thorough": "check/thorough/receipt.json",
    "choose": "report/best.json",
    "trust": "trust/trust.json",
    "export": "export/export.json",
    "track": "track/runs.json",
}
# the step that makes the files of a folder, where folder and step differ
FOLDERS = {"data": "split", "report": "choose"}


@dataclass(frozen=True)
class Layout:
    """The files of one sweep, below its results folder."""

    results: Path

    @property
    def plan(self) -> Path:
        """Return the file of the plan, which every command of a sweep takes."""
        return self._at("plan.json")

    @property
    def identity(self) -> Path:
        """Return the file of the id by which a sweep is known wherever its folder lies."""
        return self._at("sweep.json")

    @property
    def lock(self) -> Path:
        """Return the lock of the snakemake that works in this folder."""
        return self._at(".snakemake.lock")

    @property
    def whole(self) -> Path:
        """Return the file that remembers which files were found as they were made."""
        return self._at("marks", "whole.json")

    @property
    def tries(self) -> Path:
        """Return the file that says how often a job is tried; only a started sweep knows."""
        return self._at("train", "tries.json")

    @property
    def queue(self) -> Path:
        """Return the file of the jobs that a cluster was given, and of how each stands."""
        return self._at("queue.json")

    def receipt(self, step: str, name: str = "") -> Path:
        """Return the receipt of a step: of a pack, cut, rung or page where it has several."""
        if step in BY_PACK:
            return self._at(step, "packs", f"{name}.json")
        if step == "truncate":
            return self._at("truncate", name, "spectrum.json")
        if step in ("rung", "probe"):
            end = "_checks" if step == "probe" else ""
            return self._at("train", "rungs", f"{name}{end}.json")
        if step == "report":
            return self._at("report", "pages", f"{name}.json")
        return self._at(RECEIPTS[step])

    def mark(self, step: str, name: str = "") -> Path:
        """Return the mark of a job, which is newer than its receipt where it has to run again."""
        return self._at("marks", step, name or step)

    def log(self, step: str, name: str = "") -> Path:
        """Return the log of a step."""
        return self._at("logs", f"{step}/{name}.log" if name else f"{step}.log")

    def split(self, which: str) -> Path:
        """Return train.xyz, valid.xyz or test.xyz."""
        return self._at("data", f"{which}.xyz")

    @property
    def foundation_model(self) -> Path:
        """Return the foundation model, which all jobs load."""
        return self._at("foundation", "foundation.model")

    @property
    def replayed(self) -> Path:
        """Return the labelled structures that trainings replay."""
        return self._at("replay", "replay.xyz")

    @property
    def kept(self) -> Path:
        """Return the structures made around the training set, labelled, that trainings keep."""
        return self._at("keep", "keep.xyz")

    def training(self, point: str, rung: int = 0) -> Path:
        """Return the folder of a training: train.json, metrics.jsonl, adapter/.

        Args:
            point: The point.
            rung: Of a race, where the training stands after that rung: state.pt lies there, too;
                0 is the whole training.
        """
        return self._at("train", *(("rungs", str(rung)) if rung else ()), point)

    def work(self, pack: str) -> Path:
        """Return the folder of a pack's checkpoint and lock."""
        return self._at("train", "packs", pack)

    def failed(self, pack: str) -> Path:
        """Return the file that counts how often points of a pack failed."""
        return self._at("train", "packs", pack, "failed.json")

    @property
    def missed(self) -> Path:
        """Return the file that counts how often MLflow was down."""
        return self._at("track", "missed.json")

    def cut(self, point: str) -> Path:
        """Return the folder of a cut point: spectrum.json, adapter/."""
        return self._at("truncate", point)

    def model(self, point: str) -> Path:
        """Return the merged model of a point."""
        return self._at("merge", point, f"{point}.model")

    def errors(self, point: str) -> Path:
        """Return the errors of a point; its parity data lie beside it."""
        return self._at("evaluate", f"{point}.json")

    def parity(self, point: str) -> Path:
        """Return reference and prediction of every number of a point."""
        return self._at("evaluate", f"{point}.parquet")

    def checks(self, point: str) -> Path:
        """Return what the checks found of a point."""
        return self._at("check", f"{point}.json")

    def calibration(self, point: str) -> Path:
        """Return the calibrated bounds of the force errors of a point."""
        return self._at("trust", f"{point}.json")

    def export(self, point: str) -> Path:
        """Return the folder of a point's files for simulation engines."""
        return self._at("export", point)

    @property
    def table(self) -> Path:
        """Return the table of points, sweep.csv."""
        return self.report("sweep.csv")

    def report(self, name: str) -> Path:
        """Return a file of the report."""
        return self._at("report", name)

    def figure(self, name: str) -> Path:
        """Return the SVG of a figure; its PDF, PNG and numbers lie beside it."""
        return self.figures / f"{name}.svg"

    @property
    def figures(self) -> Path:
        """Return the folder of the figures."""
        return self._at("report", "figures")

    @property
    def database(self) -> Path:
        """Return MLflow's store where no server is named."""
        return self._at("track", "mlflow.db")

    def _at(self, *parts: str) -> Path:
        """Return a path below the results folder, whatever names a stranger's plan or receipt has.

        Raises UserError: a name leads out of it.
        """
        for part in parts:
            if part.startswith("/") or ".." in part.split("/"):
                raise UserError(
                    f"{self.results}: {part[:60]!r} is no name of a point, pack or page; this "
                    "folder was not made by mace-lora"
                )
        return self.results.joinpath(*parts)

    def receipt_of(self, path: Path) -> Path | None:
        """Return the receipt of the job that makes a file; None where no receipt is there.

        Args:
            path: A file below the results folder.
        """
        folder, *below = path.relative_to(self.results).parts
        if not below:
            return None
        if "/".join((folder, *below)) in RECEIPTS.values():
            return path if path.is_file() else None
        rung = 0
        if below[0] == "rungs" and len(below) > 1:
            if len(below) == 2 or not below[1].isdigit():  # what is left of a probe
                return path if len(below) == 2 and path.is_file() else None
            rung, below = int(below[1]), below[2:]
        first = below[0] if len(below) > 1 else Path(below[0]).stem
        step = FOLDERS.get(folder, folder)
        if step in BY_PACK and first != "thorough":
            receipts = sorted((self.results / step / "packs").glob("*.json"))
            return next((x for x in receipts if x == path or _names(x, first, rung)), None)
        if step == "truncate":
            found = self.receipt(step, first)
        elif first in ("pages", "thorough"):
            found = path if first == "pages" else self.receipt(first)
        elif folder == "track":  # what MLflow holds comes back as a whole
            return self.results / folder
        elif step in RECEIPTS:
            found = self._page_of("/".join(below)) or self.receipt(step)
        else:
            return None
        return found if found.is_file() else None

    def _page_of(self, name: str) -> Path | None:
        """Return the receipt of the page of the report that a file belongs to."""
        pages = sorted(self.results.glob("report/pages/*.json"))
        return next((x for x in pages if f'"../{name}"' in x.read_text(errors="ignore")), None)


def find_receipt(path: Path) -> Path | None:
    """Return what to delete beside a file of a results folder, so that it is made again.

    Args:
        path: Any file.

    Returns:
        A receipt, or the file itself where no receipt belongs to it; None outside of a results
        folder.
    """
    for results in path.parents:
        layout = Layout(results)
        found = layout.receipt_of(path)
        if found is not None or layout.plan.is_file():
            return found or path
    return None


def _names(receipt: Path, point: str, rung: int) -> bool:
    """Return True if the receipt of a pack holds a result of a point, of a race at that rung."""
    try:
        results = json.loads(receipt.read_text())
        return point in results and results[point].get("rung", 0) == rung
    except ValueError:  # it is damaged itself
        return False


RECEIPT_FINDERS.append(find_receipt)
