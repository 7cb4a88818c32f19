"""Jobs of a plan: what failed before leaves nothing to do; one fetches, and no other does."""

from pathlib import Path
from typing import NoReturn

import pytest
import torch

from lora.data.structures import write_structures
from lora.errors import UserError
from lora.files.sealed import Receipt, read_json, read_seal
from lora.plan import freshness
from lora.steps.jobs import Given, run
from tests.support.models import make_model
from tests.support.plans import begin, config, pretend, running
from tests.support.trainings import lines_of, teacher_data


@pytest.fixture(autouse=True)
def code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "code_of", lambda *entries: " ".join(entries))


def test_a_failed_training_and_its_cuts_are_left_out_of_later_packs(tmp_path: Path) -> None:
    raw = config(tmp_path, rank_curve=True, grid={"rank": [2, 4], "alpha": [1]})
    sweep = begin(raw)
    pretend(sweep)
    receipt = sweep.layout.receipt("train", "lora_s3_1")
    assert sweep.sound("lora_s3_1") == ["lora_r2_a1_s3", "lora_r4_a1_s3"]
    assert sweep.sound("cut_s3") == ["lora_r4_a1_s3_cut2"]
    results = read_json(receipt)
    results["lora_r4_a1_s3"] |= {"ended_by": "failed", "reason": "memory ran out"}
    Receipt(receipt, read_seal(receipt)["stamp"]).write(results)
    assert sweep.sound("lora_s3_1") == ["lora_r2_a1_s3"]
    assert sweep.sound("cut_s3") == [] and sweep.sound("foundation") == ["foundation"]
    run("truncate", sweep.layout.plan, "lora_r4_a1_s3_cut2", Given())
    said = read_json(sweep.layout.receipt("truncate", "lora_r4_a1_s3_cut2"))
    assert said == {"not_cut": "the training of lora_r4_a1_s3 failed"}


def test_jobs_load_the_kept_foundation_model_and_never_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes have no network, and neither the cache of MACE nor the user's file."""
    torch.save(make_model(), tmp_path / "cache.model")
    write_structures(tmp_path / "data.xyz", teacher_data(8, seed=0))
    write_structures(tmp_path / "like.xyz", teacher_data(2, seed=1))
    raw = config(
        tmp_path,
        foundation={"model": "small"},
        split={"valid_fraction": 0.25, "test_fraction": 0.25},
        grid={"rank": [1, 2], "alpha": [1], "replay": [True], "keep": [True]},
        replay={"file": str(tmp_path / "like.xyz"), "labels": "foundation"},
        keep={"num_samples": 4},
        rank_curve=True,
        checks={"quick": ["gradients"], "standard": [], "thorough": []},
        train={"max_num_epochs": 1},
        export={"engines": ["ase"]},
    )
    sweep = begin(raw)
    with pytest.raises(
        UserError, match=r"foundation\.model: no such file; run mace-lora foundation"
    ):
        run("e0s", sweep.layout.plan, "", Given())
    monkeypatch.setattr("lora.steps.foundation.fetch", lambda name: tmp_path / "cache.model")
    run("foundation", sweep.layout.plan, "", Given())
    assert read_json(sweep.layout.receipt("foundation"))["licence"] == "MIT"

    def down(*_: object, **__: object) -> NoReturn:
        raise AssertionError("asked for the network")

    (tmp_path / "cache.model").unlink()
    monkeypatch.setattr("lora.mace.foundation.fetch", down)
    monkeypatch.setattr("urllib.request.urlopen", down)
    monkeypatch.setattr("socket.socket.connect", down)
    done = []
    for job in sweep.jobs.values():
        if job.computes and job.step not in ("foundation", "thorough"):
            done.append(job.step)
            run(job.step, sweep.layout.plan, job.name, Given())
        elif job.step in ("split", "choose"):
            run(job.step, sweep.layout.plan, job.name, Given())
    computing = {x.step for x in sweep.jobs.values() if x.computes} - {"foundation", "thorough"}
    assert {"audit", "e0s", "keep", "train"} < set(done) == computing


def test_what_the_same_training_has_made_is_taken(tmp_path: Path) -> None:
    """Another test set makes the split again, and changes nothing that is trained on."""
    torch.save(make_model(), tmp_path / "base.model")
    for name, n in (("data.xyz", 8), ("more.xyz", 3)):
        write_structures(tmp_path / name, teacher_data(n, seed=n))
    raw = config(
        tmp_path,
        split={"valid_fraction": 0.25, "test_fraction": 0.25},
        grid={"rank": [1, 2], "alpha": [1]},
        baselines=[],
        train={"max_num_epochs": 1},
    )
    steps = ("foundation", "split", "audit", "e0s", "train")

    def trained(raw: dict, asked: str = "") -> list[float]:
        """The time of each training of a start that runs these steps."""
        sweep = begin(raw)
        for job in (x for x in sweep.jobs.values() if x.step in steps):
            if job.step == "train":
                job.receipt.unlink(missing_ok=True)  # as snakemake does
                sweep.layout.mark("train", job.name).parent.mkdir(parents=True, exist_ok=True)
                sweep.layout.mark("train", job.name).write_text(asked)
            run(job.step, sweep.layout.plan, job.name, Given())
        assert sweep.trained_packs and running(begin(raw)).keys().isdisjoint({"train/lora_s3_1"})
        folders = [sweep.layout.training(x) for x in sweep.trained_points]
        return [lines_of(x)[-1]["timestamp"] for x in folders]

    first = trained(raw)
    data = raw["data"] | {"test_sets": [{"name": "more", "file": str(tmp_path / "more.xyz")}]}
    assert trained(raw | {"data": data}) == first
    other = trained(raw | {"data": data}, f"{freshness.Why.FORCED}: ")
    assert all(b > a for a, b in zip(first, other, strict=True))
    changed = trained(raw | {"split": raw["split"] | {"seed": 5}})
    assert all(b > a for a, b in zip(other, changed, strict=True))
