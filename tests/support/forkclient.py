"""Stand in for `mace-lora`, `snakemake` or `python`: let the fork server run the command.

`tests.support.forkserver` writes this file into a folder of commands, under a line that names the
interpreter and the real commands.  It imports little, so that it starts in some 20 ms.  It hands
its arguments, environment, folder, limits and open files to the server, passes signals on, and
ends as the command ends.  Where there is no server, or a fork cannot be what a new process would
be (LD_PRELOAD), it becomes the real command.
"""

import array
import json
import os
import resource
import signal
import socket
import sys

REAL: dict[str, str] = {}  # the real command by name; filled in where this file is written
PASSED_ON = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGURG,
    signal.SIGCONT,
)
MODULES = {"snakemake": "snakemake", "lora.cli": "mace-lora"}  # what `python -m` may name
LIMITS = [name for name in dir(resource) if name.startswith("RLIMIT_")]


def become(name: str, arguments: list[str]) -> None:
    """Become the real command."""
    os.execv(REAL[name], [REAL[name], *arguments])


def request(program: str, arguments: list[str]) -> bytes:
    """Return what the server has to know of this process, with its length before it."""
    # a signal that was given an action of Python's own was not ignored when this process began
    ignored = [int(x) for x in PASSED_ON if signal.getsignal(x) == signal.SIG_IGN]
    umask = os.umask(0)
    os.umask(umask)
    content = {
        "program": program,
        "arguments": arguments,
        "folder": os.getcwd(),
        "commands": os.path.dirname(os.path.abspath(sys.argv[0])),
        "environment": dict(os.environ),
        "umask": umask,
        "limits": {x: resource.getrlimit(getattr(resource, x)) for x in LIMITS},
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "cores": sorted(os.sched_getaffinity(0)),
        "ignored": ignored,
    }
    text = json.dumps(content).encode()
    return len(text).to_bytes(4, "big") + text


def open_files() -> list[int]:
    """Return standard input, output and error; a closed one is replaced by /dev/null."""
    files = []
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            assert os.open(os.devnull, os.O_RDWR) == number
        files.append(number)
    return files


def run(connection: socket.socket, message: bytes) -> int:
    """Let the server run the command; return its wait status."""
    files = array.array("i", open_files())
    sent = connection.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    connection.sendall(message[sent:])
    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: connection.send(bytes([number])))
    answer = b""
    while not answer.endswith(b"\n"):
        part = connection.recv(64)
        if not part:
            sys.exit("the fork server of the tests has ended")
        answer += part
    return int(answer)


def main() -> None:
    """Run the command under whose name this file was started."""
    name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
    program, left = name, arguments
    if name == "python":
        program = MODULES.get(arguments[1], "") if arguments[:1] == ["-m"] and arguments[1:] else ""
        left = arguments[2:]
    path = os.environ.get("MACE_LORA_FORK_SERVER", "")
    if not program or not path or os.environ.get("LD_PRELOAD"):
        become(name, arguments)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        become(name, arguments)
    status = run(connection, request(program, left))
    if os.WIFSIGNALED(status):  # end by the same signal
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main()
