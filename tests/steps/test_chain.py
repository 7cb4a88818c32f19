"""Sweeps on what earlier sweeps left: a merged or exported model, an adapter; and the chain."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lora.adapters.inject import inject_lora
from lora.adapters.saved import save_adapter
from lora.cli.main import main
from lora.data.structures import write_structures
from lora.errors import UserError
from lora.export.chain import chain_of
from lora.files.sealed import Receipt, read_json
from lora.mace.foundation import fingerprint, load_foundation
from lora.plan import freshness
from lora.plan.commands import Base, Run
from lora.plan.sweep import Sweep
from lora.report.foundation_table import foundation_sentences
from lora.steps.export import ExportSettings, export
from lora.steps.foundation import foundation
from lora.steps.jobs import Given, run
from tests.support.models import CASES, difference, make_model, outputs, perturb
from tests.support.plans import begin, config
from tests.support.trainings import teacher_data

POINT = "lora_r2_a8_s3"
LEFT_OUT = ("shortlist", "thorough", "report", "track", "export")


def swept(folder: Path, name: str, base: Any, **more: Any) -> Sweep:
    """A sweep of one point, up to its export."""
    raw = config(
        folder,
        results=str(folder / name),
        foundation=base,
        data={"file": str(folder / "data.xyz")},
        split={"valid_fraction": 0.25, "test_fraction": 0.25},
        grid={"rank": [2], "alpha": [8]},
        baselines=[],
        checks={"quick": [], "standard": [], "thorough": []},
        train={"max_num_epochs": 2, "batch_size": 3},
        export={"engines": ["ase"]},
        **more,
    )
    sweep = begin(raw)
    for job in sweep.jobs.values():
        if job.step not in LEFT_OUT:
            run(job.step, sweep.layout.plan, job.name, Given())
    done = Receipt(sweep.layout.receipt("export"))  # compared in engines elsewhere
    export(sweep.layout.results, ExportSettings(engines=("ase",)), Run(1, done))
    return sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freshness, "code_of", lambda *entries: " ".join(entries))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield tmp_path_factory.mktemp("chain")


@pytest.fixture(scope="module")
def first(folder: Path) -> Sweep:
    torch.save(make_model(), folder / "base.model")
    write_structures(folder / "data.xyz", teacher_data(12, seed=0))
    return swept(folder, "one", {"model": str(folder / "base.model"), "licence": "CC0"})


@pytest.fixture(scope="module")
def second(folder: Path, first: Sweep) -> Sweep:
    """A sweep on the exported model of the first."""
    return swept(folder, "two", {"model": str(first.layout.export(POINT) / f"{POINT}.model")})


def places(sweep: Sweep) -> dict[str, Path]:
    layout = sweep.layout
    return {
        "exported": layout.export(POINT) / f"{POINT}.model",
        "merged": layout.model(POINT),
        "adapter": layout.training(POINT) / "adapter",
        "point": layout.training(POINT),
        "file": layout.training(POINT) / "adapter/adapter.safetensors",
    }


@pytest.mark.parametrize("what", ["exported", "merged", "adapter", "point", "file"])
def test_each_is_the_model_and_knows_where_it_is_from(
    first: Sweep, tmp_path: Path, what: str
) -> None:
    kept = tmp_path / "foundation/foundation.model"
    said = foundation(Base(places(first)[what]), kept)
    merged = load_foundation(first.layout.model(POINT))
    assert difference(outputs(load_foundation(kept)), outputs(merged)) < 1e-9
    assert difference(outputs(merged), outputs(make_model())) > 1e-3
    (link,) = said["chain"]
    trained = read_json(first.layout.training(POINT) / "train.json")
    assert link["point"] == POINT and link["settings"]["rank"] == 2
    assert link["base"]["fingerprint"] == trained["base_fingerprint"] == fingerprint(make_model())
    data = {"file": str(first.config.data.file), "digest": trained["data_digest"]}
    assert link["data"].items() >= data.items()
    assert link["fine_tuned_elements"] == ["C", "H", "O"]
    assert link["fingerprint"] == said["fingerprint"] == fingerprint(merged)
    assert (said["licence"], said["licence_from"]) == ("CC0", "earlier sweep")
    assert foundation(Base(kept))["chain"] == said["chain"]


def test_e0s_and_audit_are_against_the_new_base(first: Sweep, second: Sweep) -> None:
    before, now = (read_json(x.layout.receipt("e0s")) for x in (first, second))
    assert now["foundation_E0s"] == pytest.approx(before["E0s"], abs=1e-12)
    assert max(map(abs, before["correction"].values())) > 1e-3
    found = read_json(second.layout.receipt("audit"))["findings"]
    assert not [row for row in found if row["level"] == "refuse"]


def test_the_chain_is_in_the_card_and_in_the_report(second: Sweep) -> None:
    run("report", second.layout.plan, "card_page", Given())
    card = read_json(second.layout.export(POINT) / "card.json")
    (link,) = card["chain"]
    assert card["base"]["fingerprint"] == link["fingerprint"] != card["fingerprint"]
    (sentence, *_) = foundation_sentences(second.layout)
    page = second.layout.report("card.html").read_text()
    for text in (sentence, page):
        assert link["base"]["fingerprint"] in text and link["fingerprint"] in text
        assert link["data"]["digest"] in text and POINT in text
    assert not [x for x in card["warnings"] if "licence" in x]  # CC0 asks for nothing


def test_the_chain_of_an_adapter_whose_base_was_made_by_a_sweep(second: Sweep) -> None:
    links = chain_of(places(second)["adapter"])
    assert [x["fingerprint"] is None for x in links] == [False, True]
    assert links[1]["base"]["fingerprint"] == links[0]["fingerprint"]
    assert links[0]["base"]["fingerprint"] == fingerprint(make_model())
    said = foundation(Base(places(second)["adapter"]))
    model = load_foundation(second.layout.model(POINT))
    assert [x["fingerprint"] for x in said["chain"]] == [
        links[0]["fingerprint"],
        fingerprint(model),
    ]


def test_an_element_that_an_earlier_sweep_was_tuned_on_is_of_its_level(second: Sweep) -> None:
    from lora.export.card import untuned, warnings_of

    card = read_json(second.layout.export(POINT) / "card.json") | {"fine_tuned_elements": ["H"]}
    assert untuned(card, {"H", "O", "N"}) == ["N"]
    lines = [x for x in warnings_of(card) if "fine-tuned" in x]
    assert [x.partition(";")[0] for x in lines] == [
        "never fine-tuned: N",
        "fine-tuned in an earlier sweep alone: C O",
    ]


def test_an_adapter_without_its_sweep_asks_for_its_base(
    first: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(places(first)["adapter"], tmp_path / "moved")
    card = json.loads((tmp_path / "moved/adapter.json").read_text())
    base = Path(card["base"]["name"])
    assert foundation(Base(tmp_path / "moved"))["chain"][0]["data"] == {}
    base.rename(base.with_suffix(".away"))
    try:
        with pytest.raises(UserError, match=r"foundation\.base: is missing; .* name its \.model"):
            foundation(Base(tmp_path / "moved"))
        (again,) = foundation(Base(tmp_path / "moved", under=base.with_suffix(".away")))["chain"]
        assert again["base"]["fingerprint"] == fingerprint(make_model())
    finally:
        base.with_suffix(".away").rename(base)
    other = make_model()
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    torch.save(other, tmp_path / "other.model")
    command = ["foundation", str(tmp_path / "moved"), "--base", str(tmp_path / "other.model")]
    assert main(command) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "this adapter belongs to the base" in said
    data = str(first.config.data.file)
    assert main(["audit", data, "--foundation", str(tmp_path / "moved")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "is an adapter, not a model; mace-lora foundation" in said


def test_records_of_other_weights_are_not_believed(first: Sweep, tmp_path: Path) -> None:
    """A card that lies beside another model says nothing of it."""
    shutil.copytree(first.layout.model(POINT).parent, tmp_path / POINT)
    other = tmp_path / POINT / "other.model"
    torch.save(make_model(), other)
    assert foundation(Base(other))["chain"] == []
    merged = tmp_path / POINT / f"{POINT}.model"
    (link,) = foundation(Base(merged))["chain"]
    assert link["base"] == {} and link["fine_tuned_elements"] == ["C", "H", "O"]


def test_an_adapter_is_the_same_file_again(first: Sweep, tmp_path: Path) -> None:
    kept = tmp_path / "foundation/foundation.model"
    files = []
    for _ in range(2):
        foundation(Base(places(first)["adapter"]), kept)
        files.append(kept.read_bytes())
        kept.unlink()
    assert files[0] == files[1]


@pytest.mark.long(only=True)
def test_an_adapter_is_the_same_file_in_another_process(first: Sweep, tmp_path: Path) -> None:
    """So that nothing is trained again where the step runs again."""
    where, files = places(first)["adapter"], [tmp_path / f"{x}/base.model" for x in "ab"]
    for seed, out in enumerate(files):
        command = [sys.executable, "-m", "lora.cli", "foundation", str(where), "--out", str(out)]
        env = os.environ | {"PYTHONHASHSEED": str(seed)}
        subprocess.run(command, check=True, env=env, capture_output=True)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_an_adapter_on_a_head_of_several_knows_which(tmp_path: Path) -> None:
    (case,) = (x for x in CASES if x.name == "two_heads")
    torch.save(make_model(case), tmp_path / "base.model")
    adapted = load_foundation(tmp_path / "base.model", "pbe0")
    inject_lora(adapted, rank=2)
    perturb(adapted)
    expected = outputs(adapted)
    save_adapter(adapted, tmp_path / "adapter", base_name=str(tmp_path / "base.model"))
    said = foundation(Base(tmp_path / "adapter"), tmp_path / "kept/foundation.model")
    assert said["heads"] == ["pbe0"]
    kept = load_foundation(tmp_path / "kept/foundation.model")
    assert difference(outputs(kept), expected) < 1e-9
    assert difference(outputs(load_foundation(tmp_path / "base.model", "pbe0")), expected) > 1e-3
    with pytest.raises(UserError, match="belongs to the base"):
        foundation(Base(tmp_path / "adapter", head="pbe"))
