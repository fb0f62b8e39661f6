"""Serve the emulator, from the command line or inside a test:

with Emulator(latency=0.1) as emulator:
    httpx.post(f"{emulator.url}/v2/...", headers={"x-api-key": emulator.api_key}, json=...)
"""

import asyncio
import socket
import tempfile
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

from local.segmind.app import Api, api_error
from local.segmind.calls import Calls
from local.segmind.control import control_routes
from local.segmind.faults import Plan
from local.segmind.provider import ApiError, Provider
from local.segmind.settings import Settings

WORKERS = 2
START_SECONDS = 10.0
ANY_HOST = "0.0.0.0"  # nosec B104 # only bound on request


class _Protocol(H11Protocol):
    """The HTTP protocol with access to its transport, to break the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio sets TCP_NODELAY only if the listener names its protocol. Without it a response waits 40 ms for an
        # ACK.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "transport": transport}


class Server(uvicorn.Server):
    """A uvicorn server that can close its listening socket for a while, and ends without waiting for connections."""

    def __init__(self, settings: Settings, plan: Plan, listener: socket.socket) -> None:
        """Take the emulator, its settings and a bound socket. The server closes the socket at the end."""
        self._listener = listener
        self._address = listener.getsockname()[:2]
        self._family = listener.family
        self._reopening: set[asyncio.Task[None]] = set()
        self._emulated = settings, plan
        host = self._address[0] if self._family == socket.AF_INET else f"[{self._address[0]}]"
        self.url = f"http://{'127.0.0.1' if host == ANY_HOST else host}:{self._address[1]}"
        super().__init__(
            uvicorn.Config(
                self._application(),
                http=_Protocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=1,
            )
        )

    async def serve_emulator(self) -> None:
        """Serve until `should_exit` is set, or a signal arrives."""
        await self.serve(sockets=[self._listener])

    async def refuse(self, seconds: float) -> None:
        """Refuse connections for some seconds. Busy connections get their response and are then closed."""
        for server in self.servers:
            server.close()
        self.servers.clear()
        # Bound without listening: connections are refused, and the port stays reserved.
        waiting = socket.socket(self._family)
        waiting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        waiting.bind(self._address)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        task = asyncio.get_running_loop().create_task(self._reopen(waiting, seconds))
        self._reopening.add(task)
        task.add_done_callback(self._reopening.discard)
        await asyncio.sleep(0)  # lets idle connections close before the response is sent

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Abort all open connections, then end."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, H11Protocol):
                connection.transport.abort()
        await asyncio.sleep(0)
        for task in (*self._reopening, *self.server_state.tasks):
            task.cancel()
        await super().shutdown(sockets)

    async def _reopen(self, listener: socket.socket, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
            loop = asyncio.get_running_loop()
            self.servers.append(await loop.create_server(self._protocol, sock=listener, backlog=self.config.backlog))
        except asyncio.CancelledError:
            listener.close()

    def _protocol(self) -> asyncio.Protocol:
        return _Protocol(self.config, self.server_state, self.lifespan.state)

    def _application(self) -> Calls:
        settings, plan = self._emulated
        executor = ThreadPoolExecutor(WORKERS, thread_name_prefix="emulator")
        directory = tempfile.TemporaryDirectory(prefix="segmind-emulator-")
        provider = Provider(settings, plan, Path(directory.name), executor, self.url)
        provider.refuse = self.refuse

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            yield
            await provider.close()
            executor.shutdown(wait=True, cancel_futures=True)
            directory.cleanup()

        calls = Calls(
            Starlette(
                routes=[*Api(provider).routes, *control_routes(provider, lambda: calls)],
                exception_handlers={ApiError: api_error, HTTPException: api_error},
                lifespan=lifespan,
            )
        )
        return calls


class Emulator:
    """The emulator in a thread, on a free port of the loopback interface."""

    def __init__(self, faults: object = None, **settings: Any) -> None:
        """`faults` is a plan or its list, `settings` are those of `Settings`; both as parsed JSON."""
        self._settings = Settings()
        self._settings.change(settings)
        self._server = Server(self._settings, Plan(faults, self._settings.seed), socket.create_server(("127.0.0.1", 0)))
        self.url = self._server.url
        # All is plain HTTP. Without verify=False the client would load all certificates, which is slow.
        self._http = httpx.Client(  # nosec B501 # see above
            base_url=self.url, timeout=START_SECONDS, trust_env=False, verify=False
        )
        self._thread = threading.Thread(target=self._run, name="emulator", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._control("GET", "health")
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._server.should_exit = True
        self._thread.join(START_SECONDS)

    @property
    def api_key(self) -> str:
        """Return the key that is valid now."""
        return self._settings.api_key

    def requests(self) -> list[dict[str, Any]]:
        """Return the accepted jobs, oldest first."""
        found: list[dict[str, Any]] = self._control("GET", "requests")
        return found

    def calls(self) -> dict[str, Any]:
        """Return the calls: `counts`, `key_leaks`, `faults`, `calls`."""
        found: dict[str, Any] = self._control("GET", "calls")
        return found

    def faults(self, faults: list[dict[str, Any]]) -> None:
        """Replace the fault plan."""
        self._control("POST", "faults", {"faults": faults})

    def change(self, **settings: Any) -> None:
        """Change settings."""
        self._control("POST", "settings", settings)

    def refuse(self, seconds: float) -> None:
        """Refuse connections for some seconds."""
        self._control("POST", "refuse", {"seconds": seconds})

    def _control(self, method: str, name: str, body: object = None) -> Any:
        response = self._http.request(method, f"/_emulator/{name}", json=body)
        if response.is_error:
            raise ValueError(response.json()["error"])
        return response.json()

    def _run(self) -> None:
        asyncio.run(self._server.serve_emulator())
