"""One WebSocket through the plain door: relayed message by message, both sides closed together."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import aiohttp
from starlette.types import Receive, Scope, Send
from yarl import URL

from comfyserve.domain.errors import ComfyserveError, EngineError
from comfyserve.domain.replica import ReplicaState
from comfyserve.gateway.plain.call import Call, upstream_headers
from comfyserve.runtime.fleet import Fleet
from comfyserve.runtime.pool import Slot
from comfyserve.runtime.supervisor import Supervisor
from comfyserve.runtime.tasks import TaskScope

_LOOK_S = 1.0
# Silent for so long, a connection is no work any more: its replica may go to sleep.
_QUIET_AFTER_S = 5.0
# A connection that is never silent keeps a replica that is to stop no longer than this.
_LONGEST_DRAIN_S = 30.0
_MOST_MESSAGE_BYTES = 64 * 1024 * 1024
_NORMAL, _GOING_AWAY, _NO_CODE, _FAILED = 1000, 1001, 1005, 1011
_RESTARTS = 1012
_SENDABLE = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
_HANDSHAKE = (
    "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Protocol", "Content-Length",
)  # fmt: skip


async def proxy_socket(
    call: Call, fleet: Fleet, session: aiohttp.ClientSession, receive: Receive, send: Send
) -> None:
    """Serve one connection; it waits for a replica as a request does."""
    await receive()  # websocket.connect
    async with TaskScope("proxy") as tasks:
        # Read ahead, so that a caller that gives up while it waits is noticed.
        caller = _Caller(receive)
        reader = tasks.spawn(caller.run(), name="receive")
        work = tasks.spawn(_outcome(call, fleet, session, caller, send), name="relay")
        await asyncio.wait({reader, work}, return_when=asyncio.FIRST_COMPLETED)
        if not caller.is_open:
            # Time to close the other side with the code that the caller gave.
            await asyncio.wait({work}, timeout=_LOOK_S)
        elif not work.done():
            await work
        error = work.result() if work.done() else None
    if error is not None:
        raise error


class _Caller:
    """The caller's messages, in order and at most a few ahead."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.messages: asyncio.Queue[dict[str, object]] = asyncio.Queue(16)
        self.is_open = True

    async def run(self) -> None:
        """Read until the caller is gone."""
        while self.is_open:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self.is_open = False
            await self.messages.put(dict(message))


async def _outcome(
    call: Call, fleet: Fleet, session: aiohttp.ClientSession, caller: _Caller, send: Send
) -> ComfyserveError | None:
    try:
        turn = await fleet.traffic.turn(fleet.deployment)
    except ComfyserveError as error:
        return error
    relay = _Relay(fleet, turn.supervisor, turn.slot, caller, send)
    try:
        upstream = await _connect(call, turn.supervisor, session)
        try:
            await relay.run(upstream)
        finally:
            await upstream.close()
    except aiohttp.WSServerHandshakeError as error:
        await _refuse(call.scope, send, error)
    except (aiohttp.ClientError, ConnectionError):
        return EngineError(
            f"replica {turn.supervisor.id} of '{call.deployment.name}' takes no WebSocket",
            code="bad_gateway",
        )
    finally:
        relay.release()
    return None


async def _connect(
    call: Call, supervisor: Supervisor, session: aiohttp.ClientSession
) -> aiohttp.ClientWebSocketResponse:
    headers = upstream_headers(call)
    for name in _HANDSHAKE:
        headers.popall(name, None)
    return await session.ws_connect(
        URL(supervisor.base_url + call.target, encoded=True),
        protocols=call.scope.get("subprotocols", ()),
        headers=headers,
        max_msg_size=_MOST_MESSAGE_BYTES,
        timeout=aiohttp.ClientWSTimeout(ws_close=_LOOK_S),
    )


async def _refuse(scope: Scope, send: Send, error: aiohttp.WSServerHandshakeError) -> None:
    """Tell the caller the status with which the server refused."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": f"refused: {error.status}"})
        return
    status = error.status if error.status >= 400 else 502
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"refused by the server\n"})


class _Relay:
    """Both directions of one connection, and whether it counts as work."""

    def __init__(
        self,
        fleet: Fleet,
        supervisor: Supervisor,
        slot: Slot[Supervisor],
        caller: _Caller,
        send: Send,
    ) -> None:
        self._fleet = fleet
        self._supervisor = supervisor
        self._slot: Slot[Supervisor] | None = slot
        self._caller = caller
        self._send = send
        self._has_moved = True

    def release(self) -> None:
        """The connection is no work any more. Twice is fine."""
        if self._slot is not None:
            self._fleet.traffic.end(self._slot)
            self._slot = None

    async def run(self, upstream: aiohttp.ClientWebSocketResponse) -> None:
        """Relay until one side has closed; then the other one is closed with the same code."""
        await self._send({"type": "websocket.accept", "subprotocol": upstream.protocol})
        async with TaskScope("relay") as tasks:
            up = tasks.spawn(self._up(upstream), name="up")
            down = tasks.spawn(self._down(upstream), name="down")
            watch = tasks.spawn(self._watch(), name="watch")
            await asyncio.wait({up, down, watch}, return_when=asyncio.FIRST_COMPLETED)
            end = next(task.result() for task in (down, up, watch) if task.done())
        code, reason = end
        if self._caller.is_open:
            with suppress(OSError):  # It has gone in this moment.
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
        else:
            await upstream.close(code=code, message=reason.encode()[:120])

    async def _up(self, upstream: aiohttp.ClientWebSocketResponse) -> "_End":
        """From the caller to the server; ends when the caller has closed."""
        while True:
            message = await self._caller.messages.get()
            if message["type"] == "websocket.disconnect":
                code = message.get("code")
                return _sendable(code, instead=_GOING_AWAY), str(message.get("reason") or "")
            self._move()
            try:
                if (text := message.get("text")) is not None:
                    await upstream.send_str(str(text))
                elif isinstance(data := message.get("bytes"), bytes):
                    await upstream.send_bytes(data)
            except (ConnectionError, aiohttp.ClientError):
                return _FAILED, "the server went away"

    async def _down(self, upstream: aiohttp.ClientWebSocketResponse) -> "_End":
        """From the server to the caller; ends when the server has closed, or is gone."""
        while True:
            message = await upstream.receive()
            match message.type:
                case aiohttp.WSMsgType.TEXT:
                    self._move()
                    is_there = await self._tell({"text": message.data})
                case aiohttp.WSMsgType.BINARY:
                    self._move()
                    is_there = await self._tell({"bytes": bytes(message.data)})
                case aiohttp.WSMsgType.CLOSE:
                    return _sendable(message.data, instead=_FAILED), str(message.extra or "")
                case _:
                    return _FAILED, "the server went away"
            if not is_there:
                return _GOING_AWAY, ""

    async def _tell(self, message: Mapping[str, str | bytes]) -> bool:
        """Send a message to the caller; whether it is still there."""
        try:
            await self._send({"type": "websocket.send", **message})
        except OSError:  # How servers say it: ASGI 2.4.
            return False
        return True

    async def _watch(self) -> "_End":
        """Give the slot back while nothing flows; end what would keep a replica from stopping."""
        quiet_s = 0.0
        draining_s = 0.0
        while draining_s < _LONGEST_DRAIN_S:
            await asyncio.sleep(_LOOK_S)
            quiet_s = 0.0 if self._has_moved else quiet_s + _LOOK_S
            self._has_moved = False
            if quiet_s >= _QUIET_AFTER_S:
                self.release()
            if self._supervisor.state is not ReplicaState.READY:
                draining_s += _LOOK_S
        return _RESTARTS, "this replica stops; connect again"

    def _move(self) -> None:
        """A message flows: the connection is work."""
        self._has_moved = True
        if self._slot is None:
            self._slot = self._fleet.traffic.again(self._supervisor)


_End = tuple[int, str]


def _sendable(code: object, *, instead: int) -> int:
    """A close code that may be sent; `instead` of one that only says that there was none."""
    if code in {None, 0, _NO_CODE}:
        return _NORMAL
    return code if isinstance(code, int) and code in _SENDABLE else instead
