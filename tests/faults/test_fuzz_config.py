"""Random configs through the whole workflow: a line that names the key, or commands that mean it.

Each is the quickstart's config with a few keys replaced.  Snakemake reads it and would run;
the commands of its jobs are then read as `mace-lora` reads them, up to the function of the step.
"""

import contextlib
import importlib
import io
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import snakemake.cli
import snakemake.jobs
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from lora.cli.main import main
from lora.plan.settings import TrainSettings

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
QUICKSTART = yaml.safe_load((ROOT / "config/config.yaml").read_text())
STEPS = {
    "train": "train_pack",
    **{x: x for x in ("split", "e0s", "replay", "merge", "evaluate", "check", "track", "export")},
}


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


def dry_run(config: dict, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """What `snakemake -n` says if it refuses, else "", and the commands of its jobs."""
    commands: list[str] = []
    shellcmd = snakemake.jobs.Job.shellcmd.fget

    def noted(self: Any) -> str | None:
        command = shellcmd(self) or ""
        if "--shortlist" not in command:  # which a sweep makes on its way
            commands.append(command)
        return command

    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    command = ["--dry-run", "--printshellcmds", "--cores", "2", "--configfile", str(path)]
    said = io.StringIO()
    with monkeypatch.context() as patch, contextlib.redirect_stderr(said):
        patch.chdir(ROOT)
        patch.setattr(snakemake.jobs.Job, "shellcmd", property(noted))
        with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as ended:
            snakemake.cli.main(command)
    return said.getvalue() if ended.value.code else "", [x for x in commands if x]


def understood(command: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]] | str:
    """The step of a command and the arguments its function gets, or the line that refuses them."""
    words = shlex.split(command)
    end = min(words.index(x) for x in ("2>", ">") if x in words)
    argv, step, got = words[1:end], words[1], {}
    name = STEPS[step]
    module = importlib.import_module(f"lora.steps.{step}")

    def taken(*args: Any, **kwargs: Any) -> None:
        got.update(kwargs, args=args)

    said = io.StringIO()
    with monkeypatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setattr(module, name, taken)
        try:
            code = main(argv)
        except SystemExit as error:  # argparse's
            code = error.code
    if code:
        assert code == 2, said.getvalue()
        return said.getvalue().strip().splitlines()[-1]
    return step, got


def meant(key: tuple[str, ...], value: Any, config: dict, step: str, got: dict[str, Any]) -> bool:
    """Whether a step got the value of a key, or has nothing to do with it."""
    section, name = key[0], key[-1]
    if step == "train":
        return all(meant_by(key, value, config, s) for s in got["args"][0].values())
    if step == "split" and section in ("split", "data"):
        own = vars(got["args"][1])
        return name not in own or own[name] == value
    if (step, section) in {("e0s", "e0s"), ("export", "export"), ("track", "tracking")}:
        return bool(got.get(name, value) == value)
    if step == "check" and key == ("checks", "settings"):
        return all(got["settings"].get(k) in (None, x) for k, x in value.items())
    return True


def meant_by(key: tuple[str, ...], value: Any, config: dict, point: TrainSettings) -> bool:
    """Whether the settings of a point are what a key says, as far as it is about them."""
    section, name = key[0], key[-1]
    if section == "grid" and name in ("rank", "alpha", "seed", "lr", "train_fraction"):
        whole = name not in ("rank", "seed") or isinstance(getattr(point, name), int)
        return point.method != "lora" or (whole and getattr(point, name) in value)
    if section == "train":
        over = config.get("methods", {}).get(point.method, {})
        return "targets" in key or name in over or getattr(point, name) == value
    if section == "methods" and point.method == key[1]:
        return "targets" in key or getattr(point, name) == value
    return True


MANY = settings(
    deadline=None,
    derandomize=True,  # the same ones every time
    phases=[
        Phase.explicit,
        Phase.generate,
    ],  # a run of snakemake each: what fails is not made smaller
    suppress_health_check=list(HealthCheck),
)


@settings(MANY, max_examples=25)
@example(changed={("tracking", "experiment"): "-x", ("data", "energy_key"): "--out"})
@example(changed={("grid", "rank"): [4.0, 2], ("grid", "alpha"): [8.0, 0.123456789, 0.12345678]})
@given(changed=good())
def test_good_values_arrive(changed: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look_through(changed, tmp_path, monkeypatch)


@settings(MANY, max_examples=40)
@example(changed={("e0s", "max_error"): float("nan")})
@example(changed={("select", "limits"): {"nve": float("inf")}})
@given(changed=odd_ones())
def test_odd_values(changed: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look_through(changed, tmp_path, monkeypatch)


def look_through(changed: dict, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that a config is refused by a line with a changed key, or means what it says."""
    config = yaml.safe_load(yaml.safe_dump(QUICKSTART)) | {"results": str(folder / "results")}
    for key, value in changed.items():
        put(config, key, value)
    refused, commands = dry_run(config, folder, monkeypatch)
    if refused:
        assert "Traceback" not in refused, refused
        lines = [x for x in refused.splitlines() if x.startswith("config: ")]
        assert len(lines) == 1, refused
        assert any(key[0] in lines[0] for key in changed), lines
        return
    assert len(commands) > 5
    for command in commands:
        found = understood(command, monkeypatch)
        if isinstance(found, str):  # what no schema can say; the step says it, before it begins
            assert ": error: " not in found, found  # of the command line itself
            assert any(key[-1] in found for key in changed), (found, command)
            continue
        for key, value in changed.items():
            if value is not None:
                assert meant(key, value, config, *found), (key, value, found)
    assert not (ROOT / "pwned").exists()
