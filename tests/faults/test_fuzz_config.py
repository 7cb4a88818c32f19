"""Random configs through the plan: lines that name a key, or jobs that mean what it says.

Each is the quickstart's config with a few keys replaced.  It is resolved as by snakemake's main
process, written, and read as `mace-lora STEP PLAN NAME` reads it.
"""

import math
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from lora.errors import UserError
from lora.plan.settings import TrainSettings
from lora.plan.start import Start
from lora.plan.sweep import Sweep
from tests.support import counts

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
QUICKSTART = yaml.safe_load((ROOT / "config/config.yaml").read_text())


def leaves(schema: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict]]:
    """Every key of the config that holds a value, with what the schema says of it."""
    schema = SCHEMA["$defs"][schema["$ref"].split("/")[-1]] if "$ref" in schema else schema
    if "properties" not in schema:
        yield path, schema
    for name, own in schema.get("properties", {}).items():
        yield from leaves(own, (*path, name))


LEAVES = dict(leaves(SCHEMA))
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=9)
nasty = st.sampled_from(
    [
        "",
        " ",
        "-x",
        "--out",
        "$(touch pwned)",
        "a b",
        "it's",
        '"',
        "{x}",
        "é☆",
        "\\",
        "%s",
        "#",
        "*",
        "null",
        "~",
        "a\nb",
        "config/config.yaml",
        "workflow/resources/quickstart/base.model",
    ]
)
numbers = st.one_of(
    st.integers(-2, 40),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(1e-9, 2.0),
    st.sampled_from([0.0, 1.0, 8.0, 1e-5, 0.123456789123, 1e22]),
)
odd = st.one_of(st.none(), st.booleans(), numbers, words, nasty, st.lists(numbers, max_size=2))


def likely(schema: dict) -> st.SearchStrategy:
    """Values of the kind that a key wants, good and bad ones."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of(*(likely(x) for x in schema["anyOf"]))
    if "$ref" in schema:
        return likely(SCHEMA["$defs"][schema["$ref"].split("/")[-1]])
    kind = schema.get("type", "string")
    kinds = {
        "boolean": st.booleans(),
        "integer": st.integers(schema.get("minimum", -2), 200),
        "number": numbers,
        "object": st.dictionaries(st.one_of(words, st.sampled_from(["H", "nve"])), odd, max_size=2),
        "null": st.none(),
        "string": st.one_of(words, nasty),
    }
    if kind == "array":
        return st.lists(likely(schema["items"]), max_size=3)
    return st.one_of(*(kinds[x] for x in ([kind] if isinstance(kind, str) else kind)))


NAMES_OF_FILES = {
    "file",
    "test_sets",
    "valid_file",
    "test_file",
    "holdout_file",
    "model",
    "results",
}
TOGETHER = {"protocol", "baselines", "live", "uri", "valid_fraction", "test_fraction", "gpus"}
PLAIN = sorted(key for key in LEAVES if key[-1] not in NAMES_OF_FILES | TOGETHER)


def allowed(key: tuple[str, ...], value: Any) -> bool:
    schema = {"$defs": SCHEMA["$defs"], **LEAVES[key]}
    return Draft202012Validator(schema).is_valid(value) and "nan" not in str(value)


@st.composite
def good(draw: st.DrawFn) -> dict[tuple[str, ...], Any]:
    """Some keys of the config with values that the schema allows."""
    keys = draw(st.lists(st.sampled_from(PLAIN), min_size=4, max_size=10, unique=True))
    return {
        key: draw(likely(LEAVES[key]).filter(lambda value, key=key: allowed(key, value)))
        for key in keys
    }


@st.composite
def odd_ones(draw: st.DrawFn) -> dict[tuple[str, ...], Any]:
    """One or two keys of the config with values of any kind."""
    keys = draw(st.lists(st.sampled_from(sorted(LEAVES)), min_size=1, max_size=2, unique=True))
    return {key: draw(st.one_of(likely(LEAVES[key]), odd)) for key in keys}


def put(config: dict, key: tuple[str, ...], value: Any) -> None:
    for name in key[:-1]:
        config = config.setdefault(name, {})
    config[key[-1]] = value


def planned(config: dict, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """The plan of a config as a job reads it."""
    with monkeypatch.context() as patch:
        patch.chdir(ROOT)
        made = Sweep.begin(config, Start(cores=2, nodes=4))
        read = Sweep.load(made.layout.plan)
    assert made.points == read.points and made.packs == read.packs and made.config == read.config
    assert {k: x.settings for k, x in made.jobs.items()} == {
        k: x.settings for k, x in read.jobs.items()
    }
    return read


def meant(key: tuple[str, ...], value: Any, config: dict, sweep: Sweep) -> bool:
    """Whether the jobs of a plan have the value of a key, or have nothing to do with it."""
    section, name = key[0], key[-1]
    trained = [x.settings for x in sweep.trained_points.values() if x.settings]
    if section in ("grid", "train", "methods"):
        return all(meant_by(key, value, config, s) for s in trained)
    step = {"data": "split", "tracking": "track"}.get(section, section)
    job = sweep.jobs.get(step)
    if job is None or name not in job.settings:
        return True
    return bool(job.settings[name] == value)


def meant_by(key: tuple[str, ...], value: Any, config: dict, point: TrainSettings) -> bool:
    """Whether the settings of a point are what a key says, as far as it is about them."""
    section, name = key[0], key[-1]
    if section == "grid" and name in ("rank", "alpha", "seed", "lr", "train_fraction"):
        whole = name not in ("rank", "seed") or isinstance(getattr(point, name), int)
        return point.method != "lora" or (whole and getattr(point, name) in value)
    if name not in {x.name for x in fields(point)}:
        return True
    if section == "train":
        over = config.get("methods", {}).get(point.method, {})
        return "targets" in key or name in over or getattr(point, name) == value
    if section == "methods" and point.method == key[1]:
        swept = value if isinstance(value, list) else [value]
        return "targets" in key or getattr(point, name) in swept
    return True


MANY = settings(
    deadline=None,
    derandomize=True,  # the same ones every time
    suppress_health_check=list(HealthCheck),
)


@settings(MANY, max_examples=counts.of(40, 300))
@example(changed={("tracking", "experiment"): "-x", ("data", "energy_key"): "--out"})
@example(changed={("grid", "rank"): [4, 2], ("grid", "alpha"): [8.0, 0.123456789, 0.12345678]})
@given(changed=good())
def test_good_values_arrive(changed: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look_through(changed, tmp_path, monkeypatch)


@settings(MANY, max_examples=counts.of(80, 500))
@example(changed={("e0s", "max_error"): float("nan")})
@example(changed={("select", "limits"): {"nve": float("inf")}})
@given(changed=odd_ones())
def test_odd_values(changed: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look_through(changed, tmp_path, monkeypatch)


def look_through(changed: dict, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that a config is refused by lines with a changed key, or means what it says."""
    config = yaml.safe_load(yaml.safe_dump(QUICKSTART)) | {"results": str(folder / "results")}
    for key, value in changed.items():
        put(config, key, value)
    text = yaml.safe_dump(config, allow_unicode=True)
    config = yaml.safe_load(text)
    if ("results",) in changed:  # a folder of this name shall not be made in the repository
        return
    try:
        sweep = planned(config, monkeypatch)
    except UserError as error:
        lines = str(error).splitlines()
        assert all(line.startswith(("config: ", "upgrade: ")) for line in lines), lines
        assert any(key[0] in line for line in lines for key in changed), lines
        return
    for key, value in changed.items():
        if value is not None and not (isinstance(value, float) and math.isnan(value)):
            assert meant(key, value, config, sweep), (key, value)
    assert not (ROOT / "pwned").exists()
