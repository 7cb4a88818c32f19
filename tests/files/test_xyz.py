"""Frames of extended xyz, line by line: none is lost, and what is wrong has its line."""

import gzip
import time
from pathlib import Path

import pytest

from lora.errors import UserError
from lora.files.comment import wrong_in
from lora.files.xyz import columns_of, is_xyz, parse_comment, scan

ONE = "2\nProperties=species:S:1:pos:R:3 e=1\nH 0 0 0\nH 0 0 1\n"


def test_comment_lines() -> None:
    found = parse_comment("""a="x = \\"1\\"" 'b'=2 c = [1, 2] d={3 4} flag e=-1""")
    assert found["a"] == 'x = "1"' and found["c"] == "[1, 2]" and found["d"] == "{3 4}"
    assert (found["flag"], found["e"]) == ("T", "-1")
    assert columns_of("species:S:1:pos:R:3:f:R:3") == {"species": 1, "pos": 3, "f": 3}
    assert columns_of("odd") == {}


def test_empty_lines_between_frames(tmp_path: Path) -> None:
    path = tmp_path / "x.xyz"
    path.write_text("\n" + ONE + "\n \n" + ONE + ONE + "\n\n")
    frames = list(scan(path))
    assert [(x.number, x.line, x.gap) for x in frames] == [
        (0, 2, True),
        (1, 8, True),
        (2, 12, False),
    ]
    assert all(x.n_atoms == 2 and x.values["e"] == "1" and x.columns["pos"] == 3 for x in frames)


def test_a_comment_line_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "x.xyz"
    path.write_text("1\n\nH 0 0 0\n" * 3)
    assert [x.line for x in scan(path)] == [1, 4, 7]


def test_packed_files(tmp_path: Path) -> None:
    path = tmp_path / "x.xyz.gz"
    with gzip.open(path, "wt") as handle:
        handle.write(ONE)
    assert is_xyz(path) and [x.n_atoms for x in scan(path)] == [2]
    assert is_xyz(tmp_path / "x.300K.extxyz") and is_xyz(tmp_path / "x.xyz.old")
    for name in ("x.db", "x.xyz.h5", "x.xyz.traj", "xyz", "x.gz", ".xyz"):
        assert not is_xyz(tmp_path / name)


WRONG = {
    "cut": (ONE + "2\nc\nH 0 0 0\n", "line 5: .*frame 1 names 2 atoms, but the file ends after 1"),
    "cut_at_once": (ONE + "2\n", "line 5: .*frame 1 names 2 atoms, but the file ends after 0"),
    "hole": ("2\nc\nH 0 0 0\n\nH 0 0 1\n", "line 1: .*line 4 is empty after 1"),
    "too_many": (ONE + "H 0 0 2\n", "line 5: .*'H 0 0 2' stands where frame 1 .*frame 0 above has"),
    "prose": ("this is\nnot xyz\n", "line 1: .*'this is' stands where frame 0"),
    "count": ("1e30\n", "line 1: .*'1e30' stands where frame 0 names its atoms"),
    "huge": ("9" * 5000 + "\n", "line 1: .*'9{40}' stands where frame 0 names its atoms"),
    "digits": ("１\n", "line 1: .*'１' stands where frame 0 names its atoms"),
    "nul": (ONE.replace("e=1", "e=\x00"), "line 2: .*comment line holds a NUL character"),
    "escape": (ONE.replace("e=1", "e=\x1b[31m"), "line 2: .*holds an escape character"),
    "twice": (ONE.replace("e=1", "e=1 f=2 e=3"), "line 2: .*comment line names e twice"),
    "columns": (ONE.replace("H 0 0 1", "H 0 0 1 7"), "line 4: .*5 columns stand where .* 4"),
    "few": (ONE.replace("H 0 0 1", "H 0 0"), "line 4: .*3 columns stand where .* names 4"),
    "many": (ONE.replace("R:3", "R:1000000000"), "line 2: .*Properties=.* is not name:type"),
    "wide": (ONE.replace("R:3", "R:99999"), "line 2: .*names 100000 columns, more than 1000"),
    "kinds": (ONE.replace("pos:R", "pos:Q"), "line 2: .*Properties=.* with the types S, R, I, L"),
    "column_twice": (ONE.replace(":3 e", ":3:pos:R:3 e"), "line 2: .*Properties names pos twice"),
    "number": (ONE.replace("H 0 0 1", "H 0 0 1_000"), "line 4: .*'1_000' is no plain number"),
    "script": (ONE.replace("H 0 0 1", "H 0 0 １"), "line 4: .*'１' is no plain number"),
    "lattice": (ONE.replace("e=1", 'Lattice="1_0 0 0"'), "line 2: .*holds no plain number"),
    "no_value": (ONE.replace("e=1", "type= e=1"), "line 2: .*type has no value before e=1"),
    "empty": (ONE.replace("e=1", 'type="" e=1'), "line 2: .*type has no value before e"),
    "no_end": (
        ONE.replace("e=1", "note=it's e=1"),
        "line 2: .*' in its comment line is not closed",
    ),
    "in_a_word": (
        ONE.replace("e=1", 'pbc=" pbc="T T T" e=1 note="x"'),
        "line 2: .*quotes within a word of its comment line hide ' pbc='",
    ),
    "in_two_words": (
        ONE.replace("e=1", "note=don't e=1 it's"),
        "line 2: .*quotes within a word of its comment line hide 't e=1 it'",
    ),
    "equals": (ONE.replace("e=1", "e=1 =2"), "line 2: .*an = stands alone"),
    "long": ("x" * 1_000_001, "line 1: .*the line has more than 1000000 characters"),
    "bytes": (b"\xff\xfe1", "cannot be read as extended xyz"),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_has_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "x.xyz"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        list(scan(path))
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_columns_without_names(tmp_path: Path) -> None:
    path = tmp_path / "x.xyz"
    path.write_text("1\nE=-1\nH 0 0 0 0.1 0.2 0.3\n1\nE=-1\nH 0 0 0\n" + ONE)
    assert [x.unnamed for x in scan(path)] == [3, 0, 0]


def test_what_looks_odd_and_is_right(tmp_path: Path) -> None:
    path = tmp_path / "x.xyz"
    comments = ["it's water, a glass of water", "e=1 e=1", "name=1_2 group=a_b", "url=http://x?a=b"]
    comments += ["a=[[1, 2], [3, 4]] b={x y}", 'c="it\'s"', "flag e=1", "i = 3, E = -1.5"]
    comments += ['"a key"=1', "command='x --y=1'", "a={'b': 'c=d'}", "it's hers', e=1"]
    path.write_text("".join(f"1\n{x}\nH 0 0 0\n" for x in comments))
    assert len(list(scan(path))) == len(comments)


def test_a_broken_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.xyz.gz"
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"x\.xyz\.gz: cannot be read as extended xyz"):
        list(scan(path))


def test_long_comment_lines_take_no_long(tmp_path: Path) -> None:
    for line in (
        " " * 200_000,
        '"\\' * 100_000,
        "a" + " " * 200_000,
        "[" * 200_000,
        "= " * 100_000,
        "a'=" * 100_000,
    ):
        started = time.process_time()
        wrong_in(line)
        parse_comment(line)
        assert time.process_time() - started < 10
