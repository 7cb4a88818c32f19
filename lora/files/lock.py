"""A lock with a heartbeat: a file that names the process that works in a folder.

It works in folders that several machines share, because clocks of two machines are never compared:
a process that waits watches whether the file changes.  A lock that has not changed for `STALE`
seconds, or whose process was one of this machine and has ended, was left behind and is taken over.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

BEAT = 10.0  # seconds between two heartbeats
STALE = 120.0  # seconds without one after which a lock counts as left behind


class Lock:
    """Context that holds a lock file; entering waits as long as another process keeps it alive.

    Attributes:
        path: The lock file.
        waited: True if another process held the lock first.
        lost: True if another process has taken the lock over.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.token = Path(path), uuid.uuid4().hex
        self.waited, self.lost = False, False
        self.beats = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._keep_alive, daemon=True)

    def __enter__(self) -> "Lock":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        seen, since = "", time.monotonic()
        while not self._create():
            content = _read(self.path)
            if content != seen:
                if content and not seen:
                    log.info("%s: waiting for %s", self.path, _who(content))
                seen, since = content, time.monotonic()
            if _is_gone(content) or time.monotonic() - since > STALE:
                self._take(content)
                continue
            self.waited = True
            time.sleep(min(1.0, BEAT))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()
        if self._is_mine():
            self.path.unlink(missing_ok=True)

    def is_lost(self) -> bool:
        """Return True if another process has taken the lock over: stop, and write nothing."""
        return self.lost

    def _create(self) -> bool:
        try:
            handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            file.write(self._content())
        return True

    def _content(self) -> str:
        about = {"token": self.token, "where": _here(), "pid": os.getpid(), "beats": self.beats}
        return json.dumps(about | {"host": socket.gethostname()})

    def _take(self, content: str) -> None:
        """Move a lock that was left behind out of the way; of several processes one succeeds."""
        if _read(self.path) != content:
            return
        aside = self.path.with_name(f".{self.path.name}.{self.token}")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        log.warning("%s: taken over from %s, which has gone", self.path, _who(content))
        aside.unlink()

    def _is_mine(self) -> bool:
        return self.token in _read(self.path)

    def _keep_alive(self) -> None:
        while not self.done.wait(BEAT):
            if not self._is_mine():
                self.lost = True
                return
            self.beats += 1
            try:
                self.path.write_text(self._content())
            except OSError as error:  # a full disk must not end a training; its checkpoint will
                log.warning("%s: no heartbeat (%s)", self.path, error)


def is_held(path: Path) -> bool:
    """Return True while a process keeps a lock alive, as far as its date and this machine say.

    Args:
        path: The lock file.
    """
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return False
    return age < STALE and not _is_gone(_read(path))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _about(content: str) -> dict[str, Any]:
    try:
        return dict(json.loads(content))
    except ValueError:  # the file is being written just now
        return {}


def _who(content: str) -> str:
    about = _about(content)
    return f"process {about.get('pid', '?')} on {about.get('host', '?')}"


def _is_gone(content: str) -> bool:
    """Return True if the process of a lock was one of this machine and has ended."""
    about = _about(content)
    if not about or about["where"] != _here():
        return False
    try:
        os.kill(about["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _here() -> str:
    """Return a text that stands for this machine since it started, and its process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {os.getpid()}"  # only waiting helps
