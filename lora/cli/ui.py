"""`mace-lora ui`: open MLflow's comparison UI on the store of a sweep."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path

from lora.cli.verify import verify_sweep
from lora.errors import UserError
from lora.files.sealed import read_json
from lora.plan.layout import Layout
from lora.plan.sweep import Sweep
from lora.steps.track import TrackSettings, track
from lora.tracking.store import is_elsewhere, store_uri

HOST = "127.0.0.1"  # for this machine alone; others come through ssh -L
BLOCKED = (5060, 5061)  # browsers open no page there
PATIENCE = 3.0  # seconds for MLflow to end by itself
START = 60.0  # seconds that MLflow may take to start


def ui(results: str | Path, port: int = 5000, browser: bool = True) -> None:
    """Serve the store of a sweep until interrupted, and open its page; of a server just the page.

    Args:
        results: The results folder of the sweep.
        port: The first port to try.
        browser: Whether to open a browser.

    Raises:
        UserError: There is no store yet, files of the sweep were damaged, or MLflow does not start.
    """
    results = Path(results)
    tracked = Layout(results).receipt("track")
    if not tracked.is_file():
        raise UserError(f"ui: {tracked} is missing; the sweep has not been tracked yet")
    verify_sweep(results)
    sweep = Sweep.load(Layout(results).plan)
    config = sweep.config.tracking
    if config.uri is None and is_elsewhere(results):
        print(f"{results} was moved: MLflow's store in it is made anew", flush=True)
        track(sweep, TrackSettings(None, config.experiment, config.model, named=False))
    found = read_json(tracked)
    pages = {"runs": found.get("page", "/#/experiments?workflowType=machine_learning")}
    pages |= {k: found[k] for k in ("charts", "parity", "compare") if k in found}
    store = found["uri"] or store_uri(results)
    if not store.startswith("sqlite:"):
        if not store.startswith(("http://", "https://")):
            raise UserError(f"ui: {store[:60]!r} in {tracked} is no page of a server")
        _open(store, pages, browser)
        return
    port = _free(port)
    server = _serve(store, port)
    for kind in (signal.SIGINT, signal.SIGTERM):  # a shell's background processes ignore the first
        signal.signal(kind, signal.default_int_handler)
    try:
        _wait_for(server, url := f"http://{HOST}:{port}")
        _open(url, pages, browser)
        print(f"from elsewhere: ssh -L {port}:{HOST}:{port} {socket.gethostname()}; Ctrl-C ends it")
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        _end(server)


def _serve(uri: str, port: int) -> subprocess.Popen[bytes]:
    """Start MLflow's server, small: one worker, none of the others."""
    if not Path(uri.removeprefix("sqlite:///")).is_file():
        raise UserError(f"ui: {uri} is missing; the sweep has not been tracked yet")
    command = [sys.executable, "-m", "mlflow", "ui", "-w", "1", "--backend-store-uri", uri]
    return subprocess.Popen(
        [*command, "--host", HOST, "--port", str(port)],
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _free(port: int) -> int:
    """Return the first port from there on that nobody listens at."""
    for candidate in range(port, port + 100):
        with socket.socket() as probe:
            if candidate not in BLOCKED and probe.connect_ex((HOST, candidate)):
                return candidate
    raise UserError(f"ui: ports {port} to {port + 99} are taken; choose another with --port")


def _wait_for(server: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise UserError("ui: MLflow did not start; try the command that the sweep printed at its end")


def _end(server: subprocess.Popen[bytes]) -> None:
    """End MLflow with its worker, at once: it waits for open pages otherwise."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, kind)
            server.wait(PATIENCE)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _open(url: str, pages: dict[str, str], browser: bool) -> None:
    for name, page in pages.items():
        print(f"{name:8} {url}{page}", flush=True)
    if browser:
        webbrowser.open(url + pages["runs"])
