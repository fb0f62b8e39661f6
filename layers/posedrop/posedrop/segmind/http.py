"""Make the HTTP client for the provider and its outputs."""

import httpx

from posedrop.contract.version import USER_AGENT


def http_client(transport: httpx.BaseTransport | None = None, timeout: httpx.Timeout | None = None) -> httpx.Client:
    """Return a client that follows no redirects, uses no proxy from the environment and keeps no connection open.

    After Lambda has frozen a function, its open connections may be dead. The key must not be sent to the target of a
    redirect. Responses are requested uncompressed, because images do not compress. `transport` is for tests. Without a
    `timeout` each call must set its own.
    """
    return httpx.Client(
        transport=transport,
        timeout=timeout or httpx.Timeout(5.0),
        limits=httpx.Limits(max_keepalive_connections=0),
        follow_redirects=False,
        trust_env=False,
        headers={"accept-encoding": "identity", "user-agent": USER_AGENT},
    )
