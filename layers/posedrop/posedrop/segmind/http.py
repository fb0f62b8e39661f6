"""The HTTP client of all calls that leave the stack."""

import httpx

from posedrop.contract.version import USER_AGENT


def http_client(transport: httpx.BaseTransport | None = None, timeout: httpx.Timeout | None = None) -> httpx.Client:
    """Return a client that follows no redirect, reads no proxy from the environment and keeps no connection.

    A function that was frozen may hold a dead connection, and a key must not be sent where a redirect leads. Responses
    are asked for unpacked: images do not compress. `transport` is for tests; without a `timeout` each call has its own.
    """
    return httpx.Client(
        transport=transport,
        timeout=timeout or httpx.Timeout(5.0),
        limits=httpx.Limits(max_keepalive_connections=0),
        follow_redirects=False,
        trust_env=False,
        headers={"accept-encoding": "identity", "user-agent": USER_AGENT},
    )
