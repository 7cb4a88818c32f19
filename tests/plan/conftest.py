"""Plans without a look at the code of steps."""

import pytest

from lora.plan import freshness


@pytest.fixture(autouse=True)
def code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the digests of code, which have tests of their own: an entry, its name."""
    monkeypatch.setattr(freshness, "code_of", lambda *entries: " ".join(entries))
