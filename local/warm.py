"""Python processes that start quickly: copies of one that has imported what all functions import. Linux only.

A process of a function spends a second on importing boto3 and httpx before it runs its first line. The local stack
starts a hundred of them in a run of its tests.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

IMPORTED = (
    "awscrt.auth",
    "boto3",
    "aws_lambda_powertools.metrics",
    "aws_lambda_powertools.utilities.batch",
    "aws_lambda_powertools.utilities.data_classes.sqs_event",
    "aws_lambda_powertools.utilities.parameters",
    "dateutil.parser",
    "dateutil.tz",
    "httpx",
    "s3transfer.manager",
)
"""What the functions import that is not of this project. Of their layer's versions: `make pins` compares the two."""
SERVICES = ("dynamodb", "events", "lambda", "s3", "secretsmanager", "sns", "sqs", "ssm", "stepfunctions")
"""Those whose descriptions are read already: each client of botocore needs one."""

NAME_LENGTH = 400
"""The longest command line, in bytes, that a copy can have."""
ARGUMENTS_BEGIN = 47
"""In /proc/self/stat: where the command line begins in memory, then where it ends (proc(5), arg_start and arg_end)."""


class Origin:
    """The process that is copied."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-m", "local.warm", str(theirs.fileno()), "-" * NAME_LENGTH]
            self._process = subprocess.Popen(  # nosec B603 # this module
                argv, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], cwd=Path(__file__).parent.parent
            )

    def stop(self) -> None:
        """End it. Its copies live on."""
        self._orders.close()
        self._process.wait()

    def start(self, argv: Sequence[str], cwd: str, env: Mapping[str, str], fds: Sequence[int]) -> int:
        """Run a program, as `[python, file, ...]`, in a copy; return its id. `fds` are its input, output and errors."""
        order = json.dumps({"argv": list(argv), "cwd": cwd, "env": dict(env)}).encode()
        with self._lock:
            socket.send_fds(self._orders, [len(order).to_bytes(8)], list(fds))
            self._orders.sendall(order)
            reply = self._orders.recv(8, socket.MSG_WAITALL)
        if len(reply) < 8:
            raise OSError("the process that is copied has ended")
        return int.from_bytes(reply)


class Popen:
    """A process as `subprocess.Popen(argv, cwd=..., env=...)` starts it, with pipes for texts, line by line."""

    def __init__(self, origin: Origin, argv: Sequence[str], cwd: str, env: Mapping[str, str]) -> None:
        (read_in, write_in), (read_out, write_out), (read_err, write_err) = os.pipe(), os.pipe(), os.pipe()
        try:
            self.pid = origin.start(argv, cwd, env, (read_in, write_out, write_err))
        finally:
            for fd in (read_in, write_out, write_err):
                os.close(fd)
        self.stdin: IO[str] = os.fdopen(write_in, "w", buffering=1)
        self.stdout: IO[str] = os.fdopen(read_out)
        self.stderr: IO[str] = os.fdopen(read_err)
        try:
            self._handle: int | None = os.pidfd_open(self.pid)
        except ProcessLookupError:  # it has ended already
            self._handle = None

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            os.close(self._handle)  # type: ignore[arg-type]

    def poll(self) -> int | None:
        """Return None while the process runs, then 0, because its exit code is not known here."""
        return 0 if self._ended(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        if not self._ended(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return 0

    def terminate(self) -> None:
        """Ask the process to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> bool:
        if self._handle is None:
            return True
        polled = select.poll()
        polled.register(self._handle, select.POLLIN)
        return bool(polled.poll(None if timeout is None else 1000 * timeout))

    def _signal(self, number: signal.Signals) -> None:
        if self._handle is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)


def main() -> None:
    """Import, then run what is ordered in copies of this process, until nobody can order any more."""
    orders = socket.socket(fileno=int(sys.argv[1]))
    for module in IMPORTED:
        importlib.import_module(module)
    _read_descriptions()
    gc.collect()
    gc.freeze()  # else the first collection of each copy would copy all that memory
    signal.signal(signal.SIGCHLD, _collect)
    while len((received := socket.recv_fds(orders, 8, 3))[0]) == 8:
        header, fds, *_ = received
        order = json.loads(orders.recv(int.from_bytes(header), socket.MSG_WAITALL))
        pid = os.fork()
        if pid == 0:
            orders.close()
            _run(order, fds)
            return
        for fd in fds:
            os.close(fd)
        orders.sendall(pid.to_bytes(8))


def _collect(*_: object) -> None:
    """Let copies that have ended go."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _read_descriptions() -> None:
    """Let every session of botocore have its descriptions of services from one loader, which has read some already."""
    import botocore.session
    from botocore.exceptions import DataNotFoundError

    loader = botocore.session.Session().get_component("data_loader")
    for service in SERVICES:
        for kind in ("service-2", "endpoint-rule-set-1", "paginators-1"):
            with suppress(DataNotFoundError):  # not each service has pages
                loader.load_service_model(service, kind)
    for data in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data(data)
    botocore.session.create_loader = lambda *_: loader


def _run(order: dict[str, Any], fds: Sequence[int]) -> None:
    """Become the process that was ordered."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    _show_as(order["argv"])
    sys.argv = order["argv"][1:]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    del sys.modules["__main__"]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _show_as(argv: Sequence[str]) -> None:
    """Let the machine's list of processes show this command line."""
    import ctypes

    begin, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[ARGUMENTS_BEGIN - 2 :][:2])
    shown = "\0".join(argv).encode()[: end - begin - 1]
    ctypes.memmove(begin, shown.ljust(end - begin, b"\0"), end - begin)


if __name__ == "__main__":
    main()
