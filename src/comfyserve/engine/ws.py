"""`/ws`: status on arrival, the handshake of features, and from then on what the hub sends."""

import asyncio
import json
import logging
import uuid

from aiohttp import WSMsgType, web

from comfyserve.engine.hub import Socket
from comfyserve.engine.state import Engine, engine_of

_log = logging.getLogger(__name__)


def routes() -> list[web.RouteDef]:
    """Return the routes of this module."""
    return [web.get("/ws", connect)]


async def connect(request: web.Request) -> web.WebSocketResponse:
    """Serve one WebSocket until its client goes."""
    engine = engine_of(request)
    connection = web.WebSocketResponse()
    await connection.prepare(request)
    sid = request.query.get("clientId", "") or uuid.uuid4().hex
    transport = request.transport if isinstance(request.transport, asyncio.Transport) else None
    socket = Socket(connection, transport)
    engine.hub.join(sid, socket)
    try:
        await _greet(engine, sid, connection)
        await _listen(engine, sid, socket)
    finally:
        engine.hub.leave(sid)
    return connection


async def _greet(engine: Engine, sid: str, connection: web.WebSocketResponse) -> None:
    status = {"status": engine.queue_info(), "sid": sid}
    await connection.send_json({"type": "status", "data": status})
    if engine.hub.running_client == sid and engine.hub.running_node is not None:
        # Without the prompt id: so little is what ComfyUI tells a client that comes back.
        node = {"node": engine.hub.running_node}
        await connection.send_json({"type": "executing", "data": node})


async def _listen(engine: Engine, sid: str, socket: Socket) -> None:
    """Read until the end. Only a first message about features means anything."""
    is_first = True
    async for message in socket.connection:
        content = _read(message.data) if message.type is WSMsgType.TEXT else None
        if content is None:
            continue
        if is_first and content.get("type") == "feature_flags":
            flags = content.get("data", {})
            socket.flags = flags if isinstance(flags, dict) else {}
            answer = {"type": "feature_flags", "data": engine.features()}
            await socket.connection.send_json(answer)
            _log.debug("client %s supports %s", sid, socket.flags)
        is_first = False


def _read(text: str) -> dict[str, object] | None:
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None
