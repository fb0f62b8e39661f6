"""Download outputs from the URLs that the provider returns, but only over https and from public addresses.

This client does not have the API key. Errors of httpx are translated here, once.
"""

import ipaddress
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx

from posedrop.contract.errors import DeliveryFailed, OutputInvalid
from posedrop.segmind.bodies import unpacked
from posedrop.segmind.http import http_client
from posedrop.segmind.retry_after import requested_wait

OUTPUT_LIMIT = 256 * 1000 * 1000
"""The most bytes of one output."""
REDIRECTS = 3
ADDRESSES = 4
"""The most addresses of a host that are tried. Each may take as long as the connection timeout."""

Resolve = Callable[[str, int], list[str]]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PROTOCOL_ASSIGNMENTS = ipaddress.ip_network("192.0.0.0/24")
"""IETF protocol assignments (RFC 6890). Python before 3.13 calls most of them global, but one cloud provider has its
instance metadata there."""
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # everything allocated so far (IANA, IPv6 address space)


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host name. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


class Downloader:
    """Fetches outputs over https, from public addresses only.

    `trusted_url` is the provider's base URL. Its origin is allowed even if it is plain http or private, for the local
    stack.
    """

    def __init__(
        self,
        trusted_url: str,
        transport: httpx.BaseTransport | None = None,
        resolve: Resolve = resolve,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trusted = _origin(httpx.URL(trusted_url))
        self._resolve = resolve
        self._clock = clock
        # If an image is compressed nevertheless, it is decompressed in pieces, which are counted.
        self._client = http_client(transport, httpx.Timeout(20, connect=10))

    @contextmanager
    def open(self, url: str, seconds: float) -> Iterator[Iterator[bytes]]:
        """Open `url` and yield its bytes in chunks. All of them must arrive within `seconds`.

        Raises OutputInvalid for a forbidden address or more than OUTPUT_LIMIT bytes, and DeliveryFailed if a retry may
        succeed.
        """
        deadline = self._clock() + seconds
        try:
            with self._follow(url) as response:
                if int(response.headers.get("content-length", "0")) > OUTPUT_LIMIT:
                    raise OutputInvalid(f"the output has more than {OUTPUT_LIMIT} bytes")
                yield self._chunks(response, deadline)
        # After a redirect httpx builds the next request itself. A bad Location header then raises these errors.
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:
            raise DeliveryFailed(f"the output cannot be fetched: {type(exc).__name__}") from exc

    @contextmanager
    def _follow(self, address: str) -> Iterator[httpx.Response]:
        url = _parse(address)
        for _ in range(REDIRECTS + 1):
            with self._connected(url) as response:
                if not response.has_redirect_location:
                    if response.status_code != 200:
                        raise DeliveryFailed(
                            f"the output cannot be fetched: HTTP status {response.status_code}",
                            requested_wait(response.headers, time.time()),
                        )
                    yield response
                    return
                url = _parse(response.headers["location"], url)
        raise OutputInvalid(f"the output's address redirects more than {REDIRECTS} times")

    @contextmanager
    def _connected(self, url: httpx.URL) -> Iterator[httpx.Response]:
        """Try the addresses of a URL's host in turn until one accepts the connection."""
        with ExitStack() as stack:
            *others, last = self._requests(url)
            for request in others:
                try:
                    response = stack.enter_context(self._client.stream("GET", **request))
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    continue  # nothing was sent
                break
            else:
                response = stack.enter_context(self._client.stream("GET", **last))
            yield response

    def _requests(self, url: httpx.URL) -> list[dict[str, Any]]:
        """Return one request for each address of a URL's host. IPv4 comes first: a function may have no IPv6 route."""
        if _origin(url) == self._trusted:
            return [{"url": url}]
        if url.scheme != "https":
            raise OutputInvalid(f"the output's address is not https: {_shown(url)}")
        host = _host(url)
        try:
            addresses = self._resolve(host, url.port or 443)
        except (OSError, UnicodeError) as exc:
            raise DeliveryFailed(f"the host of the output's address cannot be resolved: {_shown(url)}") from exc
        if not addresses or not all(_public(address) for address in addresses):
            raise OutputInvalid(f"the output's address is not public: {_shown(url)}")
        # Connect to the address that was checked: the name may resolve differently the next time.
        in_order = sorted(dict.fromkeys(addresses), key=lambda address: ":" in address)[:ADDRESSES]
        return [
            {
                "url": url.copy_with(host=address),
                "headers": {"host": url.netloc.decode("ascii")},
                "extensions": {"sni_hostname": host},
            }
            for address in in_order
        ]

    def _chunks(self, response: httpx.Response, deadline: float) -> Iterator[bytes]:
        total = 0
        encoding = response.headers.get("content-encoding", "")
        try:
            # No fixed chunk size: a slow response would go unnoticed until a chunk is full.
            for chunk in unpacked(response.iter_raw(), encoding):
                total += len(chunk)
                if total > OUTPUT_LIMIT:
                    raise OutputInvalid(f"the output has more than {OUTPUT_LIMIT} bytes")
                if self._clock() > deadline:
                    raise DeliveryFailed("the output cannot be fetched: the download is too slow")
                yield chunk
        except httpx.HTTPError as exc:
            raise DeliveryFailed(f"the output cannot be fetched: {type(exc).__name__}") from exc


def _parse(address: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        url = base.join(address) if base else httpx.URL(address)
    except (httpx.InvalidURL, ValueError) as exc:
        raise OutputInvalid("the output's address is not a URL") from exc
    if url.scheme not in ("http", "https") or not _host(url):
        raise OutputInvalid(f"the output's address is not https: {_shown(url)}")
    return url


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, _host(url), url.port


def _host(url: httpx.URL) -> str:
    # The ASCII form that is sent. URL.host decodes it, and raises an error for some names.
    return url.raw_host.decode("ascii")


def _shown(url: httpx.URL) -> str:
    return f"{url.scheme}://{_host(url)}"[:200]


def _public(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip.ipv4_mapped or ip.sixtofour:
            ip = ip.ipv4_mapped or ip.sixtofour or ip
        elif ip not in _GLOBAL_UNICAST:
            return False
    if ip in _PROTOCOL_ASSIGNMENTS:
        return False
    return ip.is_global and not ip.is_multicast
