"""Random xyz files and configs: a result, or one line; never a traceback, never a wrong number."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from lora.data.structures import ENERGY, FORCES, read_structures
from lora.errors import UserError
from lora.plan.settings import Targets, TrainSettings
from tests.support import counts

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.long
QUIET = settings(
    max_examples=counts.of(60, 1000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

words = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"),
    max_size=12,
)
numbers = st.one_of(
    st.floats(-50, 50).map(lambda x: f"{x:.6f}"),
    st.sampled_from(["nan", "inf", "-inf", "1e400", "0x1", "--", "T", "", "1,5", "１"]),
)
species = st.sampled_from(["H", "C", "O", "Xx", "X", "1", "", "Og", "h"])
values = st.one_of(numbers, words, st.lists(numbers, max_size=9).map(lambda x: f'"{" ".join(x)}"'))
keys = st.one_of(
    st.sampled_from(
        ["REF_energy", "REF_forces", "REF_stress", "Lattice", "pbc", "energy", "config_type"]
    ),
    words,
)
properties = st.sampled_from(
    [
        "Properties=species:S:1:pos:R:3:REF_forces:R:3",
        "Properties=species:S:1:pos:R:3",
        "Properties=species:S:1:pos:R:3:REF_forces:R:2",
        "Properties=pos:R:3:species:S:1:REF_forces:R:3",
        "Properties=species:S:1:pos:R:3:REF_forces:R:3:numbers:I:1",
        "Properties=",
        "",
    ]
)
lines = st.lists(st.one_of(species, numbers), max_size=9).map(" ".join)


@st.composite
def frames(draw: st.DrawFn) -> str:
    """Something like a frame of an extended xyz file."""
    body = draw(st.lists(lines, max_size=4))
    count = draw(st.one_of(st.just(str(len(body))), st.sampled_from(["0", "-1", "2", "x", ""])))
    pairs = draw(st.lists(st.tuples(keys, values), max_size=4))
    comment = " ".join([draw(properties), *(f"{k}={v}" for k, v in pairs)])
    return "\n".join([count, comment, *body]) + "\n"


@st.composite
def almost_good(draw: st.DrawFn) -> str:
    """A good frame with at most one thing spoiled."""
    n = draw(st.integers(1, 3))
    at = [f"O {3 * i} 0 0 0.5 0.25 {i}".split() for i in range(n)]
    pairs = {"REF_energy": "-7.5", "pbc": '"F F F"'}
    where = draw(st.sampled_from(["none", "atom", "pair"]))
    if where == "atom":
        at[draw(st.integers(0, n - 1))][draw(st.integers(0, 6))] = draw(st.one_of(numbers, species))
    if where == "pair":
        pairs[draw(keys)] = draw(values)
    comment = " ".join(f"{k}={v}" for k, v in pairs.items())
    head = "Properties=species:S:1:pos:R:3:REF_forces:R:3"
    return f"{n}\n{head} {comment}\n" + "\n".join(" ".join(x) for x in at) + "\n"


@QUIET
@given(content=st.lists(st.one_of(frames(), almost_good()), min_size=1, max_size=3).map("".join))
def test_xyz(content: str, tmp_path: Path) -> None:
    path = tmp_path / "fuzz.xyz"
    path.write_text(content, encoding="utf-8")
    try:
        found = read_structures(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    for atoms in found:  # what is taken is whole: numbers of the right shape, all finite
        assert len(atoms) and (atoms.numbers > 0).all()
        assert math.isfinite(atoms.info[ENERGY])
        assert atoms.arrays[FORCES].shape == (len(atoms), 3)
        assert np.isfinite(atoms.arrays[FORCES]).all() and np.isfinite(atoms.positions).all()


@QUIET
@given(content=st.binary(max_size=200))
def test_bytes_as_data(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fuzz.xyz"
    path.write_bytes(content)
    try:
        read_structures(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)


odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.floats(),
    words,
    st.lists(words, max_size=2),
)
names = [name for name in TrainSettings.__dataclass_fields__ if name != "targets"]
fields = st.dictionaries(st.sampled_from(names), odd, min_size=1, max_size=2)


@QUIET
@given(chosen=fields)
def test_settings_that_the_schema_lets_pass_are_taken_or_said(chosen: dict) -> None:
    """A training section is refused by the schema, refused by a line, or it is one."""
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    training = schema["$defs"]["Training"] | {"$defs": schema["$defs"]}
    own = {k: v for k, v in chosen.items() if k in training["properties"]}
    if not Draft202012Validator(training).is_valid(own):
        return
    try:
        made = TrainSettings(**own).resolved()
    except UserError as error:
        assert str(error).split(":")[0].split(" ")[0] in {*own, "energy_weight"}
        return
    for name in ("lr", "alpha", "ema_decay", "clip_grad"):
        assert math.isfinite(getattr(made, name)), name


@QUIET
@given(content=st.dictionaries(words, odd, max_size=3))
def test_targets(content: dict) -> None:
    try:
        Targets.from_dict(content)
    except UserError as error:
        assert "\n" not in str(error) and str(error).startswith("targets")


@QUIET
@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_bytes_as_e0s(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The file that every training reads: one line, whatever is in it."""
    from lora.files.sealed import read_json

    path = tmp_path / "e0s.json"
    path.write_bytes(content)
    try:
        found = read_json(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert repr(found) == repr(json.loads(content))  # nan is not equal to nan
