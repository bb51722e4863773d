"""The sockets that the gateway listens on: the server's own, and one for each deployment's port."""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from comfyserve.domain.errors import Conflict
from comfyserve.runtime.tasks import TaskScope

_CLOSE_TIMEOUT_S = 5
_BACKLOG = 2048
_WHY = {
    errno.EADDRINUSE: "is in use by another program",
    errno.EACCES: "needs a right that this user lacks (sysctl net.ipv4.ip_unprivileged_port_start=80)",
}


def bind(host: str, port: int, option: str = "--port") -> socket.socket:
    """Listen on an address. Raises Conflict `port_in_use`, saying what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, because asyncio turns Nagle's delay off for such sockets only.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        what = _WHY.get(error.errno or 0, str(error))
        raise Conflict(
            f"cannot listen on {host}:{port}: it {what}; choose another with {option}",
            code="port_in_use",
        ) from error
    listener.listen(_BACKLOG)
    listener.set_inheritable(False)
    return listener


class Listeners:
    """Serves one application on several sockets; leaving it closes them within seconds."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._app: ASGIApp | None = None
        self._scope = TaskScope("listeners")
        self._servers: dict[int, _Server] = {}
        self._fixed: list[_Server] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        servers = (*self._fixed, *self._servers.values())
        for server in servers:
            server.should_exit = True
        for server in servers:
            await server.ended.wait()
        await self._scope.aclose()

    async def serve(self, app: ASGIApp, listener: socket.socket) -> None:
        """Serve `app` on the server's own socket, and on the ports of deployments."""
        self._app = app
        await self.add(app, listener)

    async def add(
        self, app: ASGIApp, listener: socket.socket, context: ssl.SSLContext | None = None
    ) -> None:
        """Serve another application on one more socket, with TLS if a context is given."""
        self._fixed.append(await self._open(app, listener, context))

    @asynccontextmanager
    async def reserved(self, port: int | None, *, kept: int | None = None) -> AsyncIterator[None]:
        """Hold a deployment's port while it is deployed; it is served on if that succeeds.

        `kept` is the port that the deployment has already. Raises Conflict `port_in_use`.
        """
        if port is None or port == kept:
            yield
            return
        listener = bind(self._host, port)
        try:
            yield
        except BaseException:
            listener.close()
            raise
        if self._app is None:
            raise RuntimeError("nothing to serve yet")
        self._servers[listener.getsockname()[1]] = await self._open(self._app, listener)

    async def keep_only(self, ports: frozenset[int]) -> None:
        """Close the deployment ports that are not among `ports`."""
        for port in [port for port in self._servers if port not in ports]:
            server = self._servers.pop(port)
            server.should_exit = True
            await server.ended.wait()

    async def _open(
        self, app: ASGIApp, listener: socket.socket, context: ssl.SSLContext | None = None
    ) -> "_Server":
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            ws="websockets-sansio",
            ws_max_size=16 * 1024 * 1024,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=_CLOSE_TIMEOUT_S,
            timeout_keep_alive=75,
        )
        config.load()
        config.ssl = context
        server = _Server(config)
        self._scope.spawn(server.run_until_told(listener), name="serve")
        await server.began.wait()
        return server


class _Server(uvicorn.Server):
    """A uvicorn server inside somebody else's loop: it takes no signals and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.began = asyncio.Event()
        self.ended = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.began.set()

    async def run_until_told(self, listener: socket.socket) -> None:
        """Serve until `should_exit`; close what is open within the timeout."""
        try:
            await self._serve([listener])
        finally:
            self.began.set()
            self.ended.set()
