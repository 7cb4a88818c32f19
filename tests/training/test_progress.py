"""What a training prints beside its log."""

import io
import sys

import pytest

from lora.files.terminal import say


class Pieces(io.RawIOBase):
    """An output that keeps what each call of the system would get."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: bytes) -> int:
        self.pieces.append(bytes(piece))
        return len(piece)


def test_lines_of_jobs_that_run_side_by_side_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """They share the output of the sweep, and containers make it unbuffered."""
    output = Pieces()
    monkeypatch.setattr("lora.files.terminal._same_file", lambda *_: False)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, write_through=True))
    print("with print")
    assert output.pieces == [b"with print", b"\n"]
    output.pieces.clear()
    say("a line")
    say("and another")
    assert output.pieces == [b"a line\n", b"and another\n"]
