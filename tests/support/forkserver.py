"""A server that has imported torch, MACE and snakemake once, and forks for each command.

A `mace-lora` or `snakemake` that a test starts then needs no seconds of imports.  What finds
`environment()` in its environment uses it without knowing: the first folder of PATH holds
stand-ins of the commands (`tests.support.forkclient`), and snakemake's jobs inherit it.

Each command is a process of its own with the folder, environment, limits, signals and open files
of the one that asked; the library is imported anew from where its PYTHONPATH leads.  It differs
from a real one in this: it is a child of the server, in a session of its own, so what kills or
measures a whole process group, and what works on a process while it starts, has to use the real
commands (`environment(commands=())`), and its snakemake looks at cluster jobs more often.
"""

import contextlib
import fcntl
import functools
import gc
import importlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lora.cli import warm
from tests.support import forkclient

ROOT = Path(__file__).parents[2]
HOME, SOCKET = "MACE_LORA_FORK_HOME", "MACE_LORA_FORK_SERVER"
COMMANDS = ("mace-lora", "snakemake")
PRELOADED = [f"lora.steps.{x.stem}" for x in sorted((ROOT / "lora/steps").glob("[a-z]*.py"))]
PRELOADED += ["snakemake.cli", "snakemake.report.html_reporter", "snakemake.profiles"]
PRELOADED += ["dpath", "jinja2", "mlflow.store.tracking.sqlalchemy_store", "platformdirs", "yte"]
PRELOADED += ["matplotlib.figure", "pandas", "pyarrow.compute", "scipy.stats", "ase.io"]
OF_MACE = ["modules", "data", "tools.train", "tools.scripts_utils", "calculators"]

# --- what tests use


def remember_annotations() -> None:
    """Let torch parse the source of a method once, not at each of a model's hundred compilations.

    That is a fifth of the time to build a model.
    """
    internal = importlib.import_module("torch._jit_internal")
    internal.get_type_hint_captures = functools.cache(internal.get_type_hint_captures)


def open_home() -> None:
    """Make the folder of one server for all processes of this test session."""
    os.environ[HOME] = tempfile.mkdtemp(prefix="fork")
    Path(os.environ[HOME], "owner").write_text(str(os.getpid()))


def close_home() -> None:
    """End the server, if there is one, and with it what it runs."""
    home = Path(os.environ.pop(HOME))
    if (home / "pid").is_file():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int((home / "pid").read_text()), signal.SIGTERM)
    shutil.rmtree(home, ignore_errors=True)


def environment(commands: tuple[str, ...] = COMMANDS) -> dict[str, str]:
    """Start the server where there is none.

    Args:
        commands: which of `mace-lora` and `snakemake` it shall run; the others are the real ones.

    Returns:
        Variables for the environment of a process, for it and all that it starts.
    """
    if not commands:
        return {}
    home = Path(os.environ[HOME])
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "socket").exists():
            _start(home)
        folder = home / "-".join(commands)
        if not folder.is_dir():
            _write_commands(folder, commands)
    return {"PATH": f"{folder}:{os.environ['PATH']}", SOCKET: str(home / "socket")}


def _write_commands(folder: Path, commands: tuple[str, ...]) -> None:
    # snakemake starts the snakemakes of its cluster jobs by the name of its python
    names = [*commands, "python"] if "snakemake" in commands else commands
    binaries = Path(sys.executable).parent
    real = {x: str(binaries / x) for x in ("mace-lora", "snakemake")} | {"python": sys.executable}
    source = Path(forkclient.__file__).read_text()
    filled = source.replace("REAL: dict[str, str] = {}", f"REAL: dict[str, str] = {real!r}")
    assert filled != source
    folder.mkdir()
    for name in names:
        (folder / name).write_text(f"#!{sys.executable} -IS\n{filled}")
        (folder / name).chmod(0o755)


def _start(home: Path) -> None:
    # what is read at an import: threads of numpy's own cannot be forked, the number of torch's
    # is set in each command
    threads = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    set_here = {"OMP_NUM_THREADS", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"}
    left = {k: v for k, v in os.environ.items() if k not in set_here}
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forkserver", str(home)],
            cwd=ROOT,
            env=left | threads,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not (home / "socket").exists():
        assert process.poll() is None, (home / "log").read_text()
        time.sleep(0.05)


# --- the server


class ForTests(warm.Server):
    """Keeps a log of its commands, and ends them when the tests have ended."""

    def __init__(self, home: Path) -> None:
        owner = int((home / "owner").read_text())
        super().__init__(home, owner, lambda *given: warm.end_as(lambda: _run(*given)))

    def serve(self) -> None:
        """Serve until the tests have ended."""
        (self.home / "pid").write_text(str(os.getpid()))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        try:
            super().serve()
        finally:
            for pid, _ in self.running.values():
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End at once."""
        sys.exit()

    def fork(self, request: warm.Request, files: list[int], connection: socket.socket) -> int:
        """Fork for a command, and write it down."""
        pid = super().fork(request, files, connection)
        print(pid, request["program"], *request["arguments"][:2], request["folder"], flush=True)
        return pid


# --- in the forked process


def _run(request: dict[str, Any], files: list[int]) -> Any:
    """Be the command."""
    request["environment"] = _SET_BY_IMPORTS | request["environment"]
    warm.take_over(request, files)
    os.umask(request["umask"])
    os.setpriority(os.PRIO_PROCESS, 0, request["nice"])
    os.sched_setaffinity(0, request["cores"])
    for name, limits in request["limits"].items():
        if resource.getrlimit(getattr(resource, name)) != tuple(limits):
            resource.setrlimit(getattr(resource, name), limits)
    time.tzset()
    tempfile.tempdir = None
    at_once = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdout.reconfigure(line_buffering=os.isatty(1), write_through=at_once)
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads:
        sys.modules["torch"].set_num_threads(int(threads))
    return _main_of(request)()


def _main_of(request: dict[str, Any]) -> Any:
    """Return the function of a command, with the library of its PYTHONPATH imported anew."""
    program, arguments = request["program"], request["arguments"]
    real = Path(sys.executable).parent / program
    sys.argv = [str(real), *arguments]
    sys.orig_argv = [sys.executable, *sys.argv]
    paths = [x for x in os.environ.get("PYTHONPATH", "").split(os.pathsep) if x]
    sys.path[:] = [str(real.parent), *paths, *_INSTALLED, str(ROOT)]  # as installed: at the end
    for name in [x for x in sys.modules if x.partition(".")[0] in ("lora", "tests")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    if any(Path(x, "sitecustomize.py").is_file() for x in paths):  # faults that tests bring in
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")
    if program == "snakemake":
        _look_often()
        sys.executable = str(Path(request["commands"], "python"))
        return sys.modules["snakemake.cli"].main
    return importlib.import_module("lora.cli").main


def _look_often() -> None:
    """Let snakemake look at its cluster jobs as often as the profile says.

    Its executor for Slurm waits ten seconds more after each look at which nothing had ended.
    """
    executors = importlib.import_module("snakemake_interface_executor_plugins.executors.remote")

    def as_the_profile_says(self: Any) -> Any:
        return self.workflow.remote_execution_settings.seconds_between_status_checks

    name = "next_seconds_between_status_checks"
    setattr(executors.RemoteExecutor, name, property(as_the_profile_says, lambda *_: None))


_INSTALLED: list[str] = []  # the folders of sys.path but for this project's
_SET_BY_IMPORTS: dict[str, str] = {}


def _preload() -> None:
    """Import what commands import, and run nothing of it: a fork has no threads of torch's."""
    _INSTALLED.extend(x for x in sys.path if x and Path(x).resolve() != ROOT)
    before = dict(os.environ)
    for name in PRELOADED:
        importlib.import_module(name)
    upstream = importlib.import_module("lora.mace.door").upstream
    for name in OF_MACE:
        upstream(f"mace.{name}")
    remember_annotations()
    _SET_BY_IMPORTS.update({k: v for k, v in os.environ.items() if before.get(k) != v})
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    _preload()
    ForTests(Path(sys.argv[1])).serve()
