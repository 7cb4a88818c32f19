"""Fill the GPU rows of benchmarks/README.md in one command.

    python benchmarks/gpu.py out                          # on the first GPU, about ten minutes
    python benchmarks/gpu.py out --device cpu --quick     # that the script runs

Steps first (benchmarks/step.py): packs of 1 to 32 points at 32 and 128 channels, in float32,
float32 with TF32, and float64, with and without cuEquivariance.  Then the quickstart's grid end to
end (benchmarks/sweep.py): the loop over mace_run_train --lora, our workflow, and races.  Writes
out/gpu.json, all that was measured, and out/gpu.md, the tables.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).parent
WAYS = {
    "float32": ["--dtype", "float32"],
    "float32, TF32": ["--dtype", "float32", "--tf32"],
    "float64": ["--dtype", "float64"],
}
PACKS = [1, 2, 4, 8, 16, 32]
SHOWN = {"full": "full", "upstream_lora": "upstream's LoRA, s"}


def lines_of(script: str, *arguments: str) -> list[dict[str, Any]]:
    """Run a benchmark and return the lines of JSON that it prints."""
    command = [sys.executable, str(HERE / script), *arguments]
    print(" ".join(command), flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(x) for x in done.stdout.splitlines() if x.startswith("{")]


def steps(device: str, quick: bool) -> list[dict[str, Any]]:
    """Return the times of steps, a row for each way, number of channels and batch."""
    size = ["--elements", "4", "--max_L", "1", "--repeats", "1" if quick else "20"]
    size += ["--channels", *(["8"] if quick else ["32", "128"])]
    size += ["--batch", *(["1"] if quick else ["5", "16"])]
    packs = ["--packs", *map(str, PACKS[:2] if quick else PACKS)]
    rows = []
    for name, way in list(WAYS.items())[: 1 if quick else None]:
        found = lines_of("step.py", "--device", device, "--cueq", *size, *packs, *way)
        rows += [row | {"way": name} for row in found]
    return rows


def ends(device: str, quick: bool) -> dict[str, Any]:
    """Return the grid of the quickstart end to end."""
    size = ["--ranks", "2", "--alphas", "8", "--epochs", "1"] if quick else []
    return lines_of("sweep.py", "--device", device, *size)[0]


def tables(found: dict[str, Any]) -> Iterable[str]:
    """Yield the tables in markdown: shares of the time of upstream's LoRA, a step and point."""
    rows = []
    for row in found["steps"]:
        shares = {SHOWN.get(x, x.replace("lora_", "")): n for x, n in row["ratio"].items()}
        shares |= {SHOWN["upstream_lora"]: row["seconds"]["upstream_lora"]}
        rows.append({x: row[x] for x in ("way", "channels", "batch")} | shares)
    yield f"{found['steps'][0]['device']}\n"
    yield _markdown(pd.DataFrame(rows))
    end = found["end_to_end"]
    shares = {"loop": 1.0, **end["share_of_the_loop"]}
    walls = {x: {"wall, s": end[x]["wall"], "share of the loop's": n} for x, n in shares.items()}
    yield "\n" + _markdown(pd.DataFrame(walls).rename_axis("").reset_index())


def _markdown(table: pd.DataFrame) -> str:
    """Return a table in markdown, nothing where there is no number."""
    cells = [[str(x) for x in table.columns], ["---"] * len(table.columns)]
    cells += [["" if pd.isna(x) else f"{x}" for x in row] for row in table.to_numpy()]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def main() -> None:
    """Measure, and write down what was found as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"steps": steps(args.device, args.quick)}
    (args.out / "gpu.json").write_text(json.dumps(found, indent=1))
    found["end_to_end"] = ends(args.device, args.quick)
    (args.out / "gpu.json").write_text(json.dumps(found, indent=1))
    text = "\n".join(tables(found))
    (args.out / "gpu.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
