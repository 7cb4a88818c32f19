"""Config files that YAML readers stumble over: one line with file and line for each."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from lora.errors import UserErrors
from lora.plan.reading import read_config

BOMB = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdef"))
BAD: dict[str, tuple[bytes, str]] = {
    "bracket": (b"a: 1\ngrid: [4, 8\nb: 1\n", r" line 2: the bracket \[ is not closed"),
    "brace": (b"a: {b: 1\nc: 2\n", r" line 1: the bracket \{ is not closed"),
    "tab": (b"grid:\n\trank: [4]\n", " line 2: holds a tab; YAML indents with spaces only"),
    "twice": (b"a: 1\nb: 2\na: 3\n", " line 3: a stands in line 1 already; remove one of them"),
    "twice_inside": (b"g:\n  r: 1\n  r: 2\n", " line 3: r stands in line 2 already"),
    "bomb": (b"a: &a [x, x, x, x, x, x, x]\n" + BOMB.encode(), "aliases hold more than 100000"),
    "endless": (b"a: &a [*a]\n", " line 1: holds itself through an alias"),
    "list": (b"- a\n", r" line 1: \['a'\] is not a mapping; write keys and values"),
    "text": (b"abc", " line 1: 'abc' is not a mapping"),
    "empty": (b"", ": holds no config; write keys and values"),
    "comment": (b"# nothing\n", ": holds no config"),
    "latin": (b"a: 1\nb: \xff\n", " line 2: is not UTF-8; save the file as UTF-8"),
    "nul": (b"a: 1\nb: \x00\n", " line 2: holds a NUL; remove it"),
    "two": (b"a: 1\n---\nb: 2\n", " line 2: begins a second document"),
    "tag": (b"a: !!python/object:os.system x\n", r" line 1: has a YAML tag \(!\)"),
    "digits": (b"a: " + b"9" * 5000, "holds a value that cannot be read"),
    "colon": (b"a: b: c\n", " line 1: has a colon too many"),
    "indent": (b"a:\n  b: 1\n c: 2\n", " line 3: is not indented like the lines above it"),
    "quote": (b'a: "x\nb: 2\n', " line 1: the quotation mark is not closed"),
    "alias": (b"a: *x\n", r" line 1: uses an alias \(\*\) that no anchor"),
    "no_key": (b"a: 1\nb\nc: 2\n", " line 2: is no key with a value; is a colon missing"),
    "deep": (b"a: " + b"[" * 1500, ": is nested too deeply"),
    "large": (b"#" * 2_000_001, ": is larger than 2 MB"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(UserErrors) as caught:
        read_config(path)
    (line,) = caught.value.lines
    assert re.match(re.escape(str(path)) + ".*" + message, line), line


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserErrors, match="cannot be opened .no such file"):
        read_config(tmp_path / "none.yaml")
    with pytest.raises(UserErrors, match="is a folder; give a YAML file"):
        read_config(tmp_path)


def test_every_key_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("a: 1\na: 2\nb: {c: 1, c: 2}\n")
    with pytest.raises(UserErrors) as caught:
        read_config(path)
    assert len(caught.value.lines) == 2


def test_numbers_with_exponents(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("a: 1e-3\nb: ['1e-3', 1.5e3, 1.0e-3]\nc: 2024-13-45\nd: -2e-10\n")
    file = read_config(path)
    assert file.values["a"] == 1e-3 and file.values["b"] == ["1e-3", 1500.0, 1e-3]
    assert file.values["c"] == "2024-13-45"
    assert [x.removeprefix(str(path)) for x in file.warnings] == [
        " line 1: Snakemake reads 1e-3 as text; write 0.001",
        " line 2: Snakemake reads 1.5e3 as text; write 1500.0",
        " line 4: Snakemake reads -2e-10 as text; write -2.0e-10",
    ]


def test_lines_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(
        b"\xef\xbb\xbfa:\r\n  b: [1,\r\n    2]\r\nx: &x {y: 1}\r\nz: {<<: *x, w: 2}\r\n"
    )
    file = read_config(path)
    assert file.values == {"a": {"b": [1, 2]}, "x": {"y": 1}, "z": {"y": 1, "w": 2}}
    lines = file.positions.lines
    assert lines[("a",)] == 1 and lines[("a", "b", 1)] == 3 and lines[("z", "w")] == 5
    assert file.positions.where(("a", "none", "deeper")) == f" ({path}, line 1)"
    assert file.positions.where(("none",)) == f" ({path})"


def test_numbers_that_are_others_in_yaml_are_said(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("a: 1_000\nb: 010\nc: 1:30\nd: 0x1F\ne: 12\nf: 1.5\ng: '1_0'\nh: 0\n")
    found = read_config(path)
    assert [found.values[x] for x in "abcd"] == [1000, 8, 90, 31]
    assert found.warnings == [
        f"{path} line {n}: {written} is {value} in YAML; write {value}"
        for n, written, value in [(1, "1_000", 1000), (2, "010", 8), (3, "1:30", 90)]
        + [(4, "0x1F", 31)]
    ]


def test_a_config_of_very_many_values_ends_soon(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(f"a: [{'x, ' * 200_000}]\n")
    with pytest.raises(UserErrors, match="more than 50000 values"):
        read_config(path)
    path.write_text("a: " + "9" * 5000)
    with pytest.raises(
        UserErrors, match=r"line 1: holds a value that cannot be read \(a number of 5000 digits\)"
    ):
        read_config(path)
