"""What stands in front of the gateway's own application: believed proxies, HSTS, and redirects.

Forwarded headers are believed only from addresses that the operator trusts. A request that was
forwarded is never taken for one of this machine's own user, whatever it says: `gateway/auth.py`
sees that it was, and asks for a token.
"""

from collections.abc import Callable, Collection
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from comfyserve.domain.public import (
    Network,
    client_of,
    is_within,
    names_deployment,
    parse_networks,
    port_suffix,
)
from comfyserve.gateway.auth import FORWARDED

ASK_PATH = "/.comfyserve/ask"
LOOPBACK = parse_networks("127.0.0.0/8,::1")
_SECURE = {"http": "https", "ws": "wss"}


class Edge:
    """The application as callers behind proxies see it: with their address and scheme.

    The host is what the proxy asks for: X-Forwarded-Host often passes proxies as the client wrote
    it, and would lead past rules that a proxy has for host names.
    """

    def __init__(self, app: ASGIApp, trusted: tuple[Network, ...] = (), *, hsts_s: int = 0) -> None:
        self._app = app
        self._trusted = trusted
        self._hsts = f"max-age={hsts_s}; includeSubDomains" if hsts_s else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP exchange or WebSocket."""
        client = scope.get("client")
        if client is not None and is_within(client[0], self._trusted):
            scope = _forwarded(scope, self._trusted)
        if self._hsts and scope["scheme"] == "https":
            send = self._with_hsts(send)
        await self._app(scope, receive, send)

    def _with_hsts(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["strict-transport-security"] = self._hsts
            await send(message)

        return sending


class Behind:
    """The application behind our own Caddy, and the answer to which names may have certificates."""

    def __init__(self, app: Edge, domain: str, names: Callable[[], Collection[str]]) -> None:
        self._app = app
        self._domain = domain
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP exchange or WebSocket."""
        # Caddy asks for itself; what it sends on for others says so.
        is_own = FORWARDED.isdisjoint(name for name, _ in scope["headers"])
        if scope["type"] == "http" and scope["path"] == ASK_PATH and is_own:
            await self._answer(scope)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("domain", [""])[0]
        if names_deployment(asked, self._domain, self._names()):
            return PlainTextResponse("yes")
        return PlainTextResponse("no such deployment", 404)


class Redirect:
    """Sends whoever comes over HTTP to the same address over HTTPS, for names that are ours."""

    def __init__(self, domain: str, https_port: int) -> None:
        self._domain = domain
        self._port = https_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP exchange; a WebSocket is closed."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "use wss://"})
            return
        host = Headers(scope=scope).get("host", "").partition(":")[0].lower()
        if host != self._domain and not host.endswith(f".{self._domain}"):
            await PlainTextResponse("this server has no such name", 421)(scope, receive, send)
            return
        target = scope.get("raw_path", b"/").decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        url = f"https://{host}{port_suffix(self._port)}{target}{f'?{query}' if query else ''}"
        await RedirectResponse(url, 308)(scope, receive, send)


def _forwarded(scope: Scope, trusted: tuple[Network, ...]) -> Scope:
    headers = Headers(scope=scope)
    chain = headers.getlist("x-forwarded-for")
    # A proxy that does not say for whom it asks must not pass for this machine's own user.
    client = client_of(chain, trusted) if chain else ""
    changed = {**scope, "client": (client, 0) if client else None}
    # The last one is the proxy's; those before it may be anybody's.
    schemes = ",".join(headers.getlist("x-forwarded-proto"))
    if schemes.rpartition(",")[2].strip().lower() == "https":
        changed["scheme"] = _SECURE.get(scope["scheme"], scope["scheme"])
    return changed
