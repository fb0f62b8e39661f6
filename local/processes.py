"""Run processes that outlive the program that started them; a locked pid file finds them again."""

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

STOP_GRACE_SECONDS = 5.0

# Loopback never goes through a proxy, whatever the environment says.
_opener = build_opener(ProxyHandler({}))


class LocalError(Exception):
    """Something failed on this machine; `log` is the file to read, if there is one."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n{_tail(self.log)}\nLog: {self.log}" if self.log else message


def free_port() -> int:
    """Return a free TCP port of the loopback interface."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Return whether a TCP port of the loopback interface is free."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


class Process:
    """A background process group with a pid file.

    The process locks its pid file as long as it lives. So a file that is left after a crash or a reboot is never
    mistaken for a living process, even if another process has its id now.
    """

    def __init__(self, pid_file: Path, log: Path) -> None:
        self.pid_file = pid_file
        self.log = log

    def start(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        """Start `argv` in its own session, with its output in the log. Raises LocalError if it runs already."""
        if self.running():
            raise LocalError(f"already running: {self.pid_file}")
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.pid_file.open("w") as lock, self.log.open("ab") as log:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            process = subprocess.Popen(  # nosec B603 # the stack's own programs, no shell
                list(argv),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lock.fileno()],  # the child keeps the lock
            )
            lock.write(str(process.pid))

    def running(self) -> bool:
        """Return whether the process is alive."""
        try:
            with self.pid_file.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def stop(self) -> None:
        """Stop the process and all that it started; do nothing if it has ended."""
        if self.running():
            pid = int(self.pid_file.read_text())
            signal_group(pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_GRACE_SECONDS
            while self.running() and time.monotonic() < deadline:
                time.sleep(0.05)
            signal_group(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self.pid_file.unlink(missing_ok=True)

    def wait_until(self, ready: Callable[[], bool], what: str, timeout: float) -> None:
        """Wait up to `timeout` seconds until `ready`. Raises LocalError after that, or if the process ends."""
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running():
                raise LocalError(f"{what} ended while starting", self.log)
            if time.monotonic() > deadline:
                raise LocalError(f"{what} was not ready after {timeout:.0f} s", self.log)
            time.sleep(0.05)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to the process group of `pid`, if it still exists."""
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def responds(url: str) -> bool:
    """Return whether a GET of `url` succeeds."""
    try:
        with _opener.open(url, timeout=2) as response:
            return bool(200 <= response.status < 300)
    except (URLError, OSError):
        return False


def run(argv: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path, timeout: float) -> None:
    """Run a command to its end, with its output in `log`.

    Raises LocalError if it fails or takes more than `timeout` seconds. Never leaves a process running.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(  # nosec B603 # the stack's own programs, no shell
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    command = " ".join(argv[:2])
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise LocalError(f"{command} took more than {timeout:.0f} s", log) from None
    finally:
        if process.poll() is None:
            signal_group(process.pid, signal.SIGKILL)
            process.wait()
    if status != 0:
        raise LocalError(f"{command} failed with exit code {status}", log)


def _tail(path: Path | None, lines: int = 15) -> str:
    if path is None or not path.exists():
        return ""
    return "\n".join(line[:300] for line in path.read_text(errors="replace").splitlines()[-lines:])
