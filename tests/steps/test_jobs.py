"""Jobs of a plan that call no step: what failed before leaves later ones nothing to do."""

from pathlib import Path

import pytest

from lora.files.sealed import Receipt, read_json, read_seal
from lora.plan import freshness
from lora.steps.jobs import Given, run
from tests.support.plans import begin, config, pretend


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
