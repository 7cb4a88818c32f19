"""Run the cells of the fair table, and go on where it was stopped.

    python docs/fair_table/run.py --data rmd17 --dry-run     # the cells, and an estimate of hours
    python docs/fair_table/run.py --data rmd17               # 50 structures, both kinds of E0s
    python docs/fair_table/run.py --data rmd17 --sizes 10 100 --e0s estimated
    python docs/fair_table/run.py --data rmd17 --molecules ethanol --epochs 400
    python docs/fair_table/run.py --data rmd17 --bases larger
    python docs/fair_table/fill.py                         # README.md from what is finished

A finished cell is a CSV file in results/ and is not run again.  Within a cell snakemake goes on
with what its folders hold, after a kill, too.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pandas as pd
import yaml
from cells import (
    BASES,
    COMMON,
    E0S,
    FIRST,
    HERE,
    MOLECULES,
    RATES,
    ROOT,
    SIZES,
    SOURCE,
    TABLE,
    Cell,
    Rates,
    between,
    cells,
    prepare,
)
from collect import best_rates, write_cell

from lora.errors import UserError
from lora.files.sealed import write_text

LAST_STEP = {RATES: "train", TABLE: "choose"}  # no report, no MLflow
SCRIPT = "python docs/fair_table/make_base.py"
SECONDS = {"small": 1.8e-3}  # of one core, by unit of `Cell.work`, where no cell is finished


def options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, default=Path("rmd17"), help=f"MOLECULE/train.xyz, ... of {SOURCE}")
    add("--molecules", nargs="+", choices=MOLECULES, default=list(MOLECULES), metavar="NAME")
    add("--bases", nargs="+", choices=BASES, default=["small"], help="small or larger")
    add("--sizes", nargs="+", type=int, choices=SIZES, default=[SIZES[0]], help="structures")
    add("--e0s", nargs="+", choices=E0S, default=list(E0S), help="estimated or average")
    add("--cores", type=int, default=os.cpu_count(), help="cores for snakemake")
    add("--work", type=Path, default=ROOT / "fair_table", help="where sweeps lie")
    add("--results", type=Path, default=HERE / "results", help="where finished cells lie")
    add("--epochs", type=int, default=0, help="not the usual ones: cells of their own")
    add("--dry-run", action="store_true", help="print the cells and an estimate of the hours")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the cells that are not finished; return 1 where one failed, 130 where it was stopped."""
    given = options(argv)
    wanted = cells(given.bases, given.sizes, given.e0s, given.molecules)
    wanted = [Cell(x.base, x.molecule, x.n, x.e0s, given.epochs) for x in wanted]
    if given.dry_run:
        print(*plan(wanted, given.results, given.cores), sep="\n")
        return 0
    failed = []
    for cell in wanted:
        path = given.results / f"{cell.name}.csv"
        if path.is_file():
            continue
        try:
            run(cell, given.data.resolve(), given.work.resolve(), given.cores)
            write_cell(cell, given.work.resolve(), path)
            print(f"{cell.name}: finished, {path}", flush=True)
        except UserError as error:
            print(f"{cell.name}: {error}", file=sys.stderr, flush=True)
            failed.append(cell.name)
        except KeyboardInterrupt:
            print(f"{cell.name}: stopped; the same command goes on", file=sys.stderr)
            return 130
    return 1 if failed else 0


def run(cell: Cell, source: Path, work: Path, cores: int) -> None:
    """Run the two stages of a cell.

    Raises:
        UserError: A file is missing, or a sweep failed.
    """
    if not BASES[cell.base].is_file():
        raise UserError(f"{BASES[cell.base]}: is not there; {SCRIPT} sample && {SCRIPT} train")
    prepare(source, work, cell.molecule, cell.n)
    tried: dict[str, Rates] = {}
    wanted = {x: FIRST[x] for x in cell.methods}
    while wanted != tried:  # what has trained stays: the grid only grows
        tried = wanted
        sweeps(cell, RATES, tried, work, cores)
        best = best_rates(cell, work)
        if lost := [x for x in cell.methods if x not in best]:
            raise UserError(f"{', '.join(lost)}: every rate failed; see {work / cell.name}")
        wanted = between(tried, best)
    print(f"{cell.name}: rates {', '.join(f'{x} {lr:g}' for x, lr in best.items())}", flush=True)
    sweeps(cell, TABLE, {x: (lr,) for x, lr in best.items()}, work, cores)


def sweeps(cell: Cell, stage: str, rates: Mapping[str, Rates], work: Path, cores: int) -> None:
    """Run the sweeps of a stage, one after the other, each by snakemake.

    Raises:
        UserError: A sweep failed.
    """
    for part in cell.parts:
        overlay = work / cell.name / f"{stage}_{part.name}.yaml"
        write_text(overlay, yaml.safe_dump(cell.overlay(stage, part, rates, work)))
        log = overlay.with_suffix(".log")
        print(f"{cell.name}: {stage}, {', '.join(part.methods.values())}; {log}", flush=True)
        with log.open("w") as out:
            code = snakemake(overlay, LAST_STEP[stage], work, cores, out)
        if code:
            raise UserError(f"{stage} of {part.name} failed; the reason is in {log}")


def snakemake(overlay: Path, until: str, work: Path, cores: int, out: TextIO) -> int:
    """Run a sweep up to a step; return the exit code.  Where this is stopped, so is that."""
    # each results folder has a lock of its own, which a kill leaves open
    command = [sys.executable, "-m", "snakemake", "--nolock", "--cores", str(cores)]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--until", until]
    command += ["--configfile", str(COMMON), str(overlay)]
    path = [str(Path(sys.executable).parent), os.environ["PATH"]]  # of the commands of its jobs
    environment = os.environ | {"PATH": os.pathsep.join(path)}
    process = subprocess.Popen(
        command, cwd=work, env=environment, stdout=out, stderr=out, start_new_session=True
    )
    try:
        return process.wait()
    except KeyboardInterrupt:  # as Ctrl-C in a terminal, to its jobs, too
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        raise


def plan(wanted: list[Cell], results: Path, cores: int) -> list[str]:
    """Return a line a cell, and what all that are not finished take."""
    todo = [x for x in wanted if not (results / f"{x.name}.csv").is_file()]
    lines = [f"{x.name}: {said(x, results, cores) if x in todo else 'finished'}" for x in wanted]
    every = [seconds(x, results) for x in todo]
    known = sum(x for x in every if x) / cores / 3600
    more = f", and {every.count(None)} cells of a base without one" if None in every else ""
    total = sum(x.trainings for x in todo)
    lines.append(
        f"{len(todo)} cells, {total} trainings or more, {known:.1f} hours on {cores} cores{more}"
    )
    return lines


def said(cell: Cell, results: Path, cores: int) -> str:
    """Return in words what a cell takes."""
    found = seconds(cell, results)
    hours = f"{found / cores / 3600:.1f} hours" if found else "hours known when one is finished"
    return f"{cell.trainings} trainings or more of {cell.length} epochs, {hours}"


def seconds(cell: Cell, results: Path) -> float | None:
    """Return the seconds of one core that a cell takes, as finished cells of its base say."""
    spent = work = 0.0
    for path in results.glob(f"{cell.base}_*.csv"):
        table = pd.read_csv(path)
        one = table.iloc[0]
        named = str(one["molecule"]), int(one["n"]), str(one["e0s"]), int(one["length"])
        spent += float(table["seconds"].sum())
        work += Cell(cell.base, *named).work
    each = spent / work if work else SECONDS.get(cell.base)
    return each * cell.work if each else None


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
