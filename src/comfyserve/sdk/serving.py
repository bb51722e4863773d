"""A declared application as ASGI: `on_start` once, and a context around each request."""

import asyncio
import inspect
import sys
import uuid
from collections.abc import Callable, Iterable
from typing import Any, cast

from comfyserve.domain.errors import InvalidInput
from comfyserve.sdk.asgi_types import Application, Message, Receive, Scope, Send
from comfyserve.sdk.comfy_process import stop_started
from comfyserve.sdk.loading import trace_of
from comfyserve.sdk.request_context import CURRENT, Served, context

READY_PATH = "/.comfyserve/ready"
_LONGEST_ID = 128


class ServedApp:
    """What a worker serves. Starts with the server's lifespan, else with the first request."""

    def __init__(
        self, make: Callable[..., object], on_start: Callable[[], object] | None = None
    ) -> None:
        self._make = make
        self._on_start = on_start
        self._value: object = None
        self._app: Application | None = None
        self._starting = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a lifespan, an HTTP exchange or a WebSocket."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        app = await self.start()
        if scope["type"] == "http" and scope["path"] == READY_PATH:
            await _say_ready(send)
            return
        served = Served(_request_id(scope), _base_url(scope), self._value)
        token = CURRENT.set(served)
        try:
            await app(scope, receive, send)
        finally:
            CURRENT.reset(token)

    async def start(self) -> Application:
        """Run `on_start` and make the application, once. Raises what they raise."""
        if self._app is None:
            async with self._starting:
                if self._app is None:
                    self._app = await self._made()
        return self._app

    async def _made(self) -> Application:
        if self._on_start is not None:
            value = (
                self._on_start()
                if inspect.iscoroutinefunction(self._on_start)
                else await asyncio.to_thread(self._on_start)
            )
            self._value = await value if inspect.isawaitable(value) else value
        token = CURRENT.set(Served(on_start_value=self._value))
        try:
            made = self._make(context) if _takes_one(self._make) else self._make()
            if inspect.isawaitable(made):
                made = await made
        finally:
            CURRENT.reset(token)
        return as_asgi(made, f"{getattr(self._make, '__name__', 'the handler')}()")

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start ourselves, then let the application have its own lifespan, if it knows one."""
        try:
            await self._live_within(scope, receive, send)
        finally:
            # What `start_comfyui` started must not outlive a server that is told to end.
            if "comfyserve.sdk.comfy_background" in sys.modules:
                await asyncio.to_thread(stop_started)

    async def _live_within(self, scope: Scope, receive: Receive, send: Send) -> None:
        first = await receive()
        try:
            app = await self.start()
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises is told
            told = "\n".join(trace_of(error))
            await send({"type": "lifespan.startup.failed", "message": told})
            return
        has_answered = False
        pending = [first]

        async def again() -> Message:
            return pending.pop() if pending else await receive()

        async def noting(message: Message) -> None:
            nonlocal has_answered
            if not message["type"].startswith("lifespan."):
                raise InvalidInput("this is the lifespan, not a request: look at scope['type']")
            has_answered = True
            await send(message)

        try:
            await app(scope, again, noting)
        except Exception:
            if has_answered:
                raise
        if not has_answered:
            # It serves without a lifespan of its own, as ASGI allows.
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})


def as_asgi(value: Any, what: str) -> Application:  # noqa: ANN401 - whatever the user's code made
    """`value`, if it looks like an ASGI application. Raises InvalidInput."""
    if inspect.isclass(value) or not callable(value) or not _fits(value):
        raise InvalidInput(
            f"{what} is no ASGI application but {type(value).__name__}: return one, such as "
            "FastAPI(), or a function (scope, receive, send)",
            code="not_asgi",
        )
    return cast("Application", value)


def _fits(value: Any) -> bool:  # noqa: ANN401 - whatever the user's code made
    try:
        inspect.signature(value).bind({}, None, None)
    except (TypeError, ValueError):
        return False
    return True


def _takes_one(make: Callable[..., object]) -> bool:
    parameters = inspect.signature(make).parameters.values()
    return any(p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD} for p in parameters)


async def _say_ready(send: Send) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"status": "ready"}'})


def _request_id(scope: Scope) -> str:
    given = _header(scope.get("headers", ()), b"x-request-id")
    is_usable = 0 < len(given) <= _LONGEST_ID and given.isascii() and given.isprintable()
    return given if is_usable else uuid.uuid4().hex


def _base_url(scope: Scope) -> str:
    """How the caller reached us: what the proxy in front says, else the connection itself."""
    headers = scope.get("headers", ())
    host = _header(headers, b"x-forwarded-host") or _header(headers, b"host")
    scheme = _header(headers, b"x-forwarded-proto") or scope.get("scheme", "http")
    scheme = {"ws": "http", "wss": "https"}.get(scheme, scheme)
    return f"{scheme}://{host}" if host else ""


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    found = next((value for key, value in headers if key.lower() == name), b"")
    return found.decode("latin-1").partition(",")[0].strip()
