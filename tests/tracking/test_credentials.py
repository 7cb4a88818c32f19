"""Credentials go to servers that the user named, and to no other that a config names."""

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lora.errors import UserError
from lora.tracking.store import Store

USER, SECRET = "me", "correct-horse-battery"


class Stranger:
    """A server that refuses everything, and keeps what it was told."""

    def __init__(self) -> None:
        heard: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append(self.headers.get("Authorization", ""))
                self.send_response(400)
                self.end_headers()

            do_POST = do_GET  # noqa: N815  # the name that http.server looks for

            def log_message(self, *_: object) -> None:
                pass

        self.heard, self.server = heard, ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stranger]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made = Stranger()
    yield made
    made.server.shutdown()


def ask(tmp_path: Path, uri: str, named: bool = False) -> str:
    """Connect, which the server refuses; the error."""
    with pytest.raises(UserError) as caught, Store(tmp_path, uri, "exp", named).writing():
        pass
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_stranger_gets_no_credentials(
    stranger: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"):
        with monkeypatch.context() as patch:
            patch.setenv(name, SECRET)
            said = ask(tmp_path, stranger.uri)
            assert f"the credentials of {name} are not sent to 127.0.0.1:" in said
            assert f"set MLFLOW_TRACKING_URI={stranger.uri} in the environment" in said
            patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
            assert "are not sent to" in ask(tmp_path, stranger.uri)
    file = tmp_path / ".mlflow/credentials"
    file.parent.mkdir()
    file.write_text(f"[mlflow]\nmlflow_tracking_username={USER}\n")
    assert "~/.mlflow/credentials" in ask(tmp_path, stranger.uri)
    assert stranger.heard == []


@pytest.mark.parametrize("how", ["environment", "command", "nothing to send"])
def test_a_server_that_the_user_named_gets_them(
    how: str, stranger: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = "" if how == "nothing to send" else base64.b64encode(f"{USER}:{SECRET}".encode())
    if wanted:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    if how == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", stranger.uri + "/")
    assert "could not be reached" in ask(tmp_path, stranger.uri, named=how == "command")
    assert stranger.heard
    assert {*stranger.heard} == {f"Basic {wanted.decode()}" if wanted else ""}
