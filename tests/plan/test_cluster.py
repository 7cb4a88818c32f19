"""What a training asks of a cluster."""

import json
from pathlib import Path
from typing import Any

from lora.files.sealed import read_json, write_sealed, write_text
from lora.plan.cluster import MINUTES_UNKNOWN, Times, minutes_of
from lora.plan.sweep import Sweep
from tests.support.plans import begin, config, pretend


def minutes(sweep: Sweep) -> dict[str, int]:
    return minutes_of(sweep.packs, Times.of(sweep.layout, sweep.packs), sweep.layout)


def tried(folder: Path, **settings: Any) -> Sweep:
    """Packs of two points whose trainings took 90 s for 3 epochs each, with other settings now."""
    sweep = begin(config(folder, train={"max_num_epochs": 3}), nodes=4)
    assert set(minutes(sweep).values()) == {MINUTES_UNKNOWN}
    pretend(sweep, seconds=90.0)
    for pack in ("lora_s3_1", "lora_s3_2"):
        receipt = sweep.layout.receipt("train", pack)
        results = read_json(receipt)
        write_sealed(receipt, {x: result | {"epochs": 3} for x, result in results.items()})
    return Sweep.from_config(begin(config(folder, **settings), nodes=4).config)


def test_a_limit_knows_the_epochs(tmp_path: Path) -> None:
    """A trial of 3 epochs says what 500 take: 2 points, 30 s an epoch, twice that."""
    sweep = tried(tmp_path, train={"max_num_epochs": 500})
    assert minutes(sweep)["lora_s3_1"] == 10 + 2 * 500 * 30 * 2 / 60


def test_a_limit_counts_the_epochs_that_are_left(tmp_path: Path) -> None:
    """Of two points that are at the epochs 400 and 450."""
    sweep = tried(tmp_path, train={"max_num_epochs": 500})
    for point, n in zip(sweep.packs["lora_s3_1"].points, (400, 450), strict=True):
        lines = [json.dumps({"epoch": i}) + "\n" for i in range(n + 1)]
        write_text(sweep.layout.training(point.name) / "metrics.jsonl", "".join(lines))
    work = sweep.layout.work("lora_s3_1")
    work.mkdir(parents=True, exist_ok=True)
    (work / "checkpoint.pt").write_bytes(b"")
    assert minutes(sweep)["lora_s3_1"] == 10 + 2 * 100 * 30 * 2 / 60


def test_packs_do_not_depend_on_the_cores_of_a_login_node(tmp_path: Path) -> None:
    raw = config(tmp_path, pack={"size": "auto"})
    packs = [list(Sweep.begin(raw, _start(n)).packs) for n in (1, 64)]
    assert packs[0] == packs[1]


def _start(cores: int) -> Any:
    from lora.plan.start import Start

    return Start(cores=cores, nodes=4, dry=True)
