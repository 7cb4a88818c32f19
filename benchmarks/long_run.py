"""A long run: memory and file handles of a training over 10,000 steps.

    python benchmarks/long_run.py      # some ten minutes

Prints a line of JSON.
"""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "workflow/resources/quickstart"
STEPS = 10_000


def steps() -> None:
    """Resident memory and open files of a training, every 1,000 steps after the first 1,000."""
    from lora.data.structures import load_structures, read_structures, write_structures
    from lora.plan.settings import TrainSettings
    from lora.steps.train import Base, Run, TrainFiles, train_pack
    from lora.training.loop import Fit

    home = Path(tempfile.mkdtemp())
    data = read_structures(QUICKSTART / "malonaldehyde_300K.xyz")
    write_structures(home / "train.xyz", data[:50])
    write_structures(home / "valid.xyz", data[50:55])
    assert load_structures(home / "train.xyz")
    (home / "e0s.json").write_text('{"E0s": {"H": -949.47, "C": -752.87, "O": -571.91}}')
    seen: list[tuple[int, int, int]] = []
    count, step = 0, Fit.train_step

    def counted(self: Fit, *args: object) -> list:
        nonlocal count
        count += 1
        if count % 1000 == 0:
            lines = Path("/proc/self/status").read_text().splitlines()
            memory = next(int(x.split()[1]) for x in lines if x.startswith("VmRSS"))
            seen.append((count, memory // 1024, len(os.listdir("/proc/self/fd"))))
        return step(self, *args)

    Fit.train_step = counted  # type: ignore[method-assign]
    started = time.perf_counter()
    settings = {"batch_size": 5, "max_num_epochs": STEPS // 10, "patience": STEPS}
    points = {home / f"p{r}": TrainSettings(rank=r, **settings) for r in (2, 4)}
    files = TrainFiles(home / "train.xyz", home / "valid.xyz", home / "e0s.json")
    train_pack(points, Base(QUICKSTART / "base.model"), files, home, Run(threads=1))
    seconds = round(time.perf_counter() - started)
    print(json.dumps({"steps": count, "seconds": seconds, "step, MB, files": seen}))
    shutil.rmtree(home)


if __name__ == "__main__":
    steps()
