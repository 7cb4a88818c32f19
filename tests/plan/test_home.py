"""Where the workflow and the quickstart's data are, for folders that do not hold them."""

import os
from pathlib import Path

import pytest

from lora.errors import UserError
from lora.plan import home
from lora.plan.start import Start
from tests.support.sweep import ROOT

MODEL = "workflow/resources/quickstart/base.model"


def test_jobs_are_led_to_this_clone_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "another")
    for _ in range(2):
        home.lead_jobs()
        assert os.environ["PYTHONPATH"] == f"{ROOT}{os.pathsep}another"


def test_the_quickstart_is_found_where_the_folder_has_none(tmp_path: Path) -> None:
    raw = {"foundation": {"model": MODEL}, "n": [1, "data.xyz", f"{MODEL}s", None, "../" + MODEL]}
    found = home.with_quickstart(raw, tmp_path)
    assert found == raw | {"foundation": {"model": str(ROOT / MODEL)}}
    own = tmp_path / MODEL
    own.parent.mkdir(parents=True)
    own.touch()
    assert home.with_quickstart(raw, tmp_path) == raw


def test_a_library_without_its_workflow_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "home", lambda: None)
    assert home.with_quickstart(MODEL, tmp_path) == MODEL
    for ask in (home.snakefile, lambda: home.settle(tmp_path)):
        with pytest.raises(UserError, match="clone its repository"):
            ask()
    assert not list(tmp_path.iterdir())
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow/Snakefile").touch()
    assert home.settle(tmp_path) == []  # a folder with a workflow needs none


def test_a_storage_that_would_carry_a_part_is_refused() -> None:
    """Marks, plan and adapters are no files of rules: with S3 and fs no job finds them."""
    with pytest.raises(UserError, match=r"^storage: .* and s3 would carry only a part"):
        Start(provider="s3").refuse_strange()
    assert "provider=workflow.storage_settings" in (ROOT / "rules/common.smk").read_text()
