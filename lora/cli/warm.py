"""Jobs of a sweep on one machine as forks of one process that has imported what they need.

Importing torch and MACE takes seconds, and a sweep has hundreds of jobs.  So snakemake's main
process starts a server, which imports all once; each `mace-lora STEP` hands its arguments,
folder, environment and open files over, and the server forks a process that does the job:

    snakemake --starts--> server --forks--> the job
    mace-lora STEP --asks--^    <--how it ended--

It is the job in all that others see of it: a signal to `mace-lora` reaches it, it dies with
`mace-lora`, and `mace-lora` ends as it ends.  Where there is no server, where it is not ready yet,
or where its library is another or has changed, `mace-lora` does its job itself.  There is none on
clusters, where jobs begin on other machines, and none beside a GPU, which a fork may not share
(`lora.plan.warm`).
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import selectors
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from lora.plan.home import LIBRARY
from lora.plan.warm import OFF, SOCKET

HERE = [sys.prefix, str(LIBRARY)]  # of one environment and one library, or it is not the same job
PASSED_ON = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGURG, signal.SIGCONT),
)
STALE = "stale"
Request = dict[str, Any]

# --- in mace-lora


def ask(arguments: list[str]) -> int | None:
    """Let the server do a job; return its exit code, None where this process has to do it.

    Args:
        arguments: Those of `mace-lora`.
    """
    path = os.environ.get(SOCKET, OFF)
    if path == OFF or os.environ.get("LD_PRELOAD"):
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
        except OSError:  # there is none, or not yet
            return None
        request = {
            "here": HERE,
            "arguments": arguments,
            "folder": os.getcwd(),
            "environment": dict(os.environ),
            "ignored": [int(x) for x in PASSED_ON if signal.getsignal(x) == signal.SIG_IGN],
        }
        content = json.dumps(request).encode()
        message = len(content).to_bytes(4, "big") + content
        try:
            sent = socket.send_fds(connection, [message], [0, 1, 2])
            if sent < len(message):
                connection.sendall(message[sent:])
        except OSError:  # no job begins before the whole of it has arrived
            return None
        answer = ""
        before = {
            number: signal.signal(number, lambda number, _: _send(connection, number))
            for number in PASSED_ON
            if number not in request["ignored"]
        }
        with contextlib.suppress(OSError):
            answer = connection.makefile().readline().strip()
        for number, action in before.items():
            signal.signal(number, action)
    if answer == STALE:
        return None
    if not answer:
        print("mace-lora: the process that did this job has ended", file=sys.stderr)
        return 1
    status = int(answer)
    if os.WIFSIGNALED(status):  # end by the same signal
        last = os.WTERMSIG(status)
        if last != signal.SIGKILL:
            signal.signal(last, signal.SIG_DFL)
        os.kill(os.getpid(), last)
    return os.WEXITSTATUS(status)


def _send(connection: socket.socket, number: int) -> None:
    """Send a signal's number; where the job has just ended, it is too late for it."""
    with contextlib.suppress(OSError):
        connection.send(bytes([number]))


# --- the server


class Server:
    """Answers each connection with a process, and tells how it ended."""

    def __init__(
        self,
        home: Path,
        owner: int,
        begin: Callable[[Request, list[int]], object],
        fits: Callable[[Request], bool] = lambda _: True,
    ) -> None:
        """Take a folder.

        Args:
            home: Of the socket; deleted at the end.
            owner: The process whose jobs these are.
            begin: What a fork does with a request and its standard input, output and error.
            fits: Tells whether a fork would be the same job.
        """
        self.home = home
        self.selector = selectors.DefaultSelector()
        self.running: dict[int, tuple[int, socket.socket]] = {}  # by pidfd
        self.owner = os.pidfd_open(owner)
        self.listener = socket.socket(socket.AF_UNIX)
        self.begin, self.fits = begin, fits

    def serve(self) -> None:
        """Serve until the owner and all jobs have ended."""
        self.selector.register(self.owner, selectors.EVENT_READ, self.close)
        self.listener.bind(str(self.home / "new"))
        self.listener.listen(64)
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        (self.home / "new").rename(self.home / "socket")  # found once it is ready
        while self.selector.get_map() and (self.home.exists() or self.running):
            for key, _ in self.selector.select():
                if key.fd in self.selector.get_map():  # not closed by the one before
                    act: Callable[[], None] = key.data
                    act()

    def close(self) -> None:
        """Take no more jobs."""
        for source in (self.owner, self.listener):
            self.selector.unregister(source)
        self.listener.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def accept(self) -> None:
        """Fork for a job."""
        connection, _ = self.listener.accept()
        connection.settimeout(20)
        try:
            request, files = _received(connection)
        except (OSError, ValueError):  # it was killed while it asked
            connection.close()
            return
        try:
            if not self.fits(request):
                connection.sendall(f"{STALE}\n".encode())
                connection.close()
            else:
                self.fork(request, files, connection)
        except OSError:  # it was killed, files change just now, or there is no room for a fork
            connection.close()
        for file in files:
            os.close(file)

    def fork(self, request: Request, files: list[int], connection: socket.socket) -> int:
        """Fork for a job; return the number of the process."""
        pid = os.fork()
        if pid == 0:
            try:
                for other in (self.listener, connection, *(x for _, x in self.running.values())):
                    other.close()
                self.begin(request, files)
            finally:
                os._exit(1)  # whatever happens: what follows is the server's
        handle = os.pidfd_open(pid)
        self.running[handle] = pid, connection
        self.selector.register(handle, selectors.EVENT_READ, lambda: self.ended(handle))
        self.selector.register(connection, selectors.EVENT_READ, lambda: self.pass_on(handle))
        return pid

    def pass_on(self, handle: int) -> None:
        """Send a job the signals that `mace-lora` got; kill it when `mace-lora` was killed."""
        pid, connection = self.running[handle]
        try:
            numbers = connection.recv(64)
        except OSError:
            numbers = b""
        for number in numbers or bytes([signal.SIGKILL]):
            os.kill(pid, number)
        if not numbers:
            self.selector.unregister(connection)

    def ended(self, handle: int) -> None:
        """Tell `mace-lora` how its job ended."""
        pid, connection = self.running.pop(handle)
        _, status = os.waitpid(pid, 0)
        self.selector.unregister(handle)
        os.close(handle)
        with contextlib.suppress(KeyError):
            self.selector.unregister(connection)
        with contextlib.suppress(OSError):
            connection.sendall(f"{status}\n".encode())
        connection.close()


def state_of(library: Path) -> list[tuple[str, int, int]]:
    """Return what tells whether the files of a library are still the same.

    Args:
        library: Its folder.
    """
    files = [x for x in sorted(library.rglob("*.py")) if x.is_file()]
    return [(str(x), x.stat().st_mtime_ns, x.stat().st_size) for x in files]


def _received(connection: socket.socket) -> tuple[Request, list[int]]:
    """Return what is asked, and standard input, output and error."""
    content, files, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while len(content) < 4 or len(content) < 4 + int.from_bytes(content[:4], "big"):
        part = connection.recv(1 << 16)
        if not part:
            raise ValueError("half a request")
        content += part
    return json.loads(content[4:]), list(files)


# --- in the fork


def end_as(command: Callable[[], object]) -> NoReturn:
    """Call a command, and end this process as the interpreter would end.

    Args:
        command: It returns, or exits with, what `sys.exit` takes.
    """
    code = 1
    try:
        code = _code_of(command)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        for file in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                file.flush()
        os._exit(code)


def _code_of(command: Callable[[], object]) -> int:
    """Return the exit code of a command."""
    try:
        code = command()
    except SystemExit as error:
        code = error.code
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def take_over(request: Request, files: list[int]) -> None:
    """Take on what the process that asked had.

    Args:
        request: Its "folder", "environment", and "ignored" signals.
        files: Its standard input, output and error.
    """
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    os.environ.clear()
    os.environ.update(request["environment"])
    importlib.import_module("numpy").random.seed()


def prepare() -> dict[str, str]:
    """Import what jobs import, and run nothing of it: a fork has no threads of torch's.

    Returns:
        The variables of the environment that imports have set.
    """
    before = dict(os.environ)
    steps = importlib.import_module("lora.steps")
    for found in pkgutil.iter_modules(steps.__path__, "lora.steps."):
        importlib.import_module(found.name)
    importlib.import_module("lora.cli.main")
    importlib.import_module("lora.mace.door").import_all()
    gc.collect()
    gc.freeze()
    return {k: v for k, v in os.environ.items() if before.get(k) != v}


def serve(home: Path, owner: int) -> None:
    """Serve the jobs of a snakemake.

    Args:
        home: The folder of the socket; deleted at the end.
        owner: The process of snakemake.
    """
    # a signal to all processes is for the jobs, which end by themselves; the server ends after them
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    state, imported, server = state_of(LIBRARY), prepare(), os.getpid()

    def fits(request: Request) -> bool:
        return bool(request["here"] == HERE and state_of(LIBRARY) == state)

    def job(request: Request, files: list[int]) -> int:
        importlib.import_module("lora.mace.processes").end_with(server)
        request["environment"] |= imported
        take_over(request, files)
        sys.argv = ["mace-lora", *request["arguments"]]
        code: int = importlib.import_module("lora.cli.main").do(request["arguments"])
        return code

    try:
        Server(home, owner, lambda *given: end_as(lambda: job(*given)), fits).serve()
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
