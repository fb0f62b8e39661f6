"""Find the function's process at the other end of a local connection. Linux only."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from local.deploy import STACK_NAME

MARK = f"ministack-lambda-{STACK_NAME}-"
"""Part of the name of the temporary directory from which MiniStack runs each process of a function."""
CONNECTIONS = Path("/proc/net/tcp")


def caller(port: int) -> tuple[int, str] | None:
    """Find the process of a function that has a connection from a local port.

    Returns its id and the function's logical id, such as `SubmitFunction`; None if the caller is not a function.
    """
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may have ended meanwhile
            _, found, rest = (entry / "cmdline").read_bytes().decode(errors="replace").partition(MARK)
            if found and any(str(handle.readlink()) in sockets for handle in (entry / "fd").iterdir()):
                return int(entry.name), rest.partition("-")[0]
    return None


def _inodes(port: int) -> Iterator[str]:
    """Yield the sockets bound to a local port. Source: Linux kernel documentation, proc_net_tcp."""
    for line in CONNECTIONS.read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port:
            yield fields[9]
