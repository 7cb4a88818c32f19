"""A real MLflow server, and what a store holds."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path


class Server:
    """A real MLflow server on a port of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "-w", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.home}/server.db"]
        command += ["--artifacts-destination", str(self.home / "artifacts")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=1).close()
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError((self.home / "server.log").read_text()[-2000:])

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def all_of(uri: str, experiment: str) -> dict[str, dict]:
    """What a store has of each point: its runs, and the epochs of a metric."""
    import mlflow

    client = mlflow.MlflowClient(uri)
    found: dict[str, dict] = {}
    made = client.get_experiment_by_name(experiment)
    for run in client.search_runs([made.experiment_id]) if made else []:
        steps = client.get_metric_history(run.info.run_id, "valid/loss")
        one = found.setdefault(run.data.tags["point"], {"ids": [], "status": run.info.status})
        one["ids"].append(run.info.run_id)
        one["loss"] = sorted((m.step, m.value) for m in steps)
    return found
