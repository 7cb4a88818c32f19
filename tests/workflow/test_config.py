"""Bad configs: one line with key, value and where to look, before anything runs."""

from pathlib import Path

import pytest
import yaml

from tests.support.sweep import dry_run

ROOT = Path(__file__).parents[2]


BAD = {
    "unknown_key": ({"ranks": [4]}, "'ranks' was unexpected"),
    "unknown_key_inside": ({"train": {"epochs": 5}}, "config: train: .*'epochs' was unexpected"),
    "rank_0": ({"grid": {"rank": [4, 0]}}, r"config: grid\.rank\.1: 0 is less than the minimum"),
    "rank_text": ({"grid": {"rank": ["4"]}}, r"config: grid\.rank\.0: '4' is not of type"),
    "rank_scalar": ({"grid": {"rank": 4}}, r"config: grid\.rank: 4 is not of type 'array'"),
    "twice": ({"grid": {"rank": [4, 4]}}, r"config: grid\.rank: .* has non-unique elements"),
    "alpha": ({"grid": {"alpha": [-1]}}, r"config: grid\.alpha\.0: -1 is less than or equal"),
    "lr_text": ({"train": {"lr": "1e-3"}}, r"config: train\.lr: '1e-3' is not of type 'number'"),
    "method": ({"split": {"method": "kfold"}}, r"config: split\.method: 'kfold' is not one of"),
    "fraction": ({"split": {"test_fraction": 1.5}}, r"config: split\.test_fraction: 1.5 is"),
    "fractions": (
        {"split": {"valid_fraction": 0.6, "test_fraction": 0.5}},
        r"split\.valid_fraction \+ split\.test_fraction: 1\.1 leaves nothing to train on",
    ),
    "no_file": ({"data": {"file": "no.xyz"}}, r"config: data\.file: no\.xyz is not a file"),
    "no_test_file": (
        {"data": {"test_sets": [{"name": "hot", "file": "no.xyz"}]}},
        r"config: data\.test_sets\.hot: no\.xyz is not a file",
    ),
    "e0s": ({"e0s": {"method": "guess"}}, r"config: e0s\.method: 'guess' is not valid"),
    "loss": ({"train": {"loss": "mse"}}, r"config: train\.loss: 'mse' is not one of"),
    "dtype": ({"train": {"default_dtype": "half"}}, r"train\.default_dtype: 'half' is not one"),
    "no_holdout": ({"checks": {"holdout_file": "no.xyz"}}, r"checks\.holdout_file: no\.xyz is not"),
    "no_check": ({"checks": {"quick": ["hole"]}}, r"config: checks\.quick\.0: 'hole' is not one"),
    "leftovers": (
        {"data": {"file": "Makefile"}},
        r"config: data\.test_sets\.600K: is the quickstart's, and data\.file is not",
    ),
    "replay": (
        {"grid": {"protocol": ["replay"]}},
        r"config: replay\.file: is needed for the protocol",
    ),
    "secret": ({"tracking": {"uri": "http://me:pw@host"}}, r"tracking\.uri: no user or password"),
    "live": ({"tracking": {"live": True}}, r"config: tracking\.live: needs a server"),
}


@pytest.mark.parametrize(("overlay", "message"), BAD.values(), ids=BAD)
def test_bad_config(tmp_path: Path, overlay: dict, message: str) -> None:
    import re

    done = dry_run(overlay, tmp_path)
    assert done.returncode != 0
    lines = [x for x in (done.stdout + done.stderr).splitlines() if x.startswith("config: ")]
    assert len(lines) == 1, done.stdout + done.stderr
    assert re.search(message, lines[0])
    assert "Traceback" not in done.stderr and "me:pw" not in done.stderr + done.stdout
    assert not (tmp_path / "results").exists()


def test_schema_describes_every_key() -> None:
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    reference = (ROOT / "config/README.md").read_text()

    def walk(node: dict, name: str) -> None:
        assert node.get("additionalProperties") is not None, name
        for key, child in node["properties"].items():
            if "$ref" in child:
                continue
            assert child.get("description"), f"{name}.{key}"
            assert f"`{key}`" in reference, f"config/README.md does not mention {name}.{key}"
            if "properties" in child:
                walk(child, f"{name}.{key}")
            elif child.get("type") == "object":
                assert "additionalProperties" in child, f"{name}.{key}"

    walk(schema, "config")
    walk(schema["$defs"]["training"], "training")


def test_training_keys_are_the_librarys() -> None:
    from dataclasses import fields

    from lora.plan.settings import TrainSettings

    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    ours = set(schema["$defs"]["training"]["properties"])
    library = {f.name for f in fields(TrainSettings)}
    grid = {"method", "rank", "alpha", "scaling", "seed", "train_fraction", "protocol"}
    assert library - ours == grid | {"replay_weight"}  # replay.weight
    assert ours <= library
