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


class Taken(Exception):  # noqa: N818  (who holds the lock)
    """A lock that another process keeps alive, where waiting was not asked for."""


class Lock:
    """Context that holds a lock file; entering waits as long as another process keeps it alive.

    Attributes:
        path: The lock file.
        wait: Whether to wait for it.
        waited: True if another process held the lock first.
        lost: True if another process has taken the lock over.
    """

    def __init__(self, path: str | Path, wait: bool = True) -> None:
        """Name the lock.

        Args:
            path: The lock file.
            wait: False raises `Taken` where another process keeps it alive.
        """
        self.path, self.token, self.wait = Path(path), uuid.uuid4().hex, wait
        self.waited, self.lost = False, False
        self.beats, self.inode = 0, 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._keep_alive, daemon=True)

    def __enter__(self) -> "Lock":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        seen, since = "", time.monotonic()
        while not self._create():
            content = _read(self.path)
            if content != seen:
                if seen and content and not self.wait:
                    raise Taken(_who(content))
                if content and not seen:
                    tell = log.info if self.wait else log.warning  # of a start one wants to know
                    tell("%s: waiting for %s", self.path, _who(content))
                seen, since = content, time.monotonic()
            if _is_gone(self.path, content) or time.monotonic() - since > STALE:
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
            self.inode = os.fstat(handle).st_ino
            try:
                file.write(self._content())
                file.flush()
            except OSError:  # a full disk: leave no lock that nobody holds
                self.path.unlink(missing_ok=True)
                raise
        return True

    def _content(self) -> str:
        about = {"token": self.token, "where": _here(), "pid": os.getpid(), "inode": self.inode}
        # of one length, so that a heartbeat needs no room on a full disk
        return json.dumps(about | {"beats": f"{self.beats:012}", "host": socket.gethostname()})

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

    def _is_taken(self) -> bool:
        """Return True where the file is another's or gone; one failed read does not say so."""
        try:
            content = self.path.read_text()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return "token" in _about(content) and self.token not in content

    def _keep_alive(self) -> None:
        while not self.done.wait(BEAT):
            if self._is_taken():
                self.lost = True
                return
            self.beats += 1
            try:
                with self.path.open("r+") as file:  # never empty, as a file cut short would be
                    file.write(self._content())
            except OSError as error:  # a full disk must not end a training; its checkpoint will
                log.warning("%s: no heartbeat (%s)", self.path, error)


def is_held(path: Path, now: float) -> bool:
    """Return True while a process keeps a lock alive, as far as its date and this machine say.

    Args:
        path: The lock file.
        now: The time by the clock that dates it (`lora.files.clock.file_time`).
    """
    try:
        age = now - path.stat().st_mtime
    except OSError:
        return False
    return age < STALE and not _is_gone(path, _read(path))


def _is_gone(path: Path, content: str) -> bool:
    """Return True if nobody holds a lock: its process has ended, or the file is a copy."""
    about = _about(content)
    try:
        inode = path.stat().st_ino
    except OSError:
        return False
    here = about.get("where") == _here()  # file systems number files for each machine
    return here and (about.get("inode", inode) != inode or _has_ended(about))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _about(content: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:  # the file is being written just now
        return {}
    return found if isinstance(found, dict) else {}


def _who(content: str) -> str:
    about = _about(content)
    return f"process {about.get('pid', '?')} on {about.get('host', '?')}"


def _has_ended(about: dict[str, Any]) -> bool:
    """Return True if the process of a lock was one of this machine and has ended."""
    if about.get("where") != _here() or not isinstance(about.get("pid"), int):
        return False
    try:
        os.kill(about["pid"], 0)
    except (ProcessLookupError, OverflowError):
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
