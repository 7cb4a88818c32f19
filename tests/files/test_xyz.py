"""Frames of extended xyz, line by line: none is lost, and what is wrong has its line."""

import gzip
from pathlib import Path

import pytest

from lora.errors import UserError
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
    assert not is_xyz(tmp_path / "x.db")


WRONG = {
    "cut": (ONE + "2\nc\nH 0 0 0\n", "line 5: .*frame 1 names 2 atoms, but the file ends after 1"),
    "cut_at_once": (ONE + "2\n", "line 5: .*frame 1 names 2 atoms, but the file ends after 0"),
    "hole": ("2\nc\nH 0 0 0\n\nH 0 0 1\n", "line 1: .*line 4 is empty after 1"),
    "too_many": (ONE + "H 0 0 2\n", "line 5: .*'H 0 0 2' stands where frame 1 .*frame 0 above has"),
    "prose": ("this is\nnot xyz\n", "line 1: .*'this is' stands where frame 0"),
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
