"""A server of MLflow for a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.store import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    yield made
    if made.process.poll() is None:
        made.kill()
