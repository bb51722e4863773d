"""`/ws`: ends here; the bus feeds it, a replica is never behind it."""

import asyncio
import struct
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from comfyserve.domain.events import (
    BusEvent,
    EngineFrame,
    EngineMessage,
    JobChanged,
    Preview,
    QueueChanged,
    ReplicaChanged,
)
from comfyserve.gateway.context import Gateway, Target
from comfyserve.runtime.bus import Subscription
from comfyserve.runtime.tasks import TaskScope

_QUEUE_LIMIT = 512
# A reader so far behind cannot catch up: what is left in its queue may not be dropped.
_HOPELESS = 16 * _QUEUE_LIMIT
_TRY_AGAIN_LATER = 1013
_PREVIEW, _PREVIEW_WITH_METADATA = 1, 4
_IMAGE_TYPES = {"image/jpeg": 1, "image/png": 2}


async def native_socket(socket: WebSocket) -> None:
    """Serve one ComfyUI client: status, then all messages of its own jobs."""
    gateway: Gateway = socket.app.state.gateway
    target: Target = socket.state.target
    sid = socket.query_params.get("clientId") or uuid.uuid4().hex

    def accepts(event: BusEvent) -> bool:
        match event:
            case QueueChanged():
                return True
            case EngineMessage() | EngineFrame() | Preview():
                return event.client_id == sid
            case JobChanged() | ReplicaChanged():
                return False

    deployment_id = target.deployment.id
    with gateway.bus.subscribe(deployment_id, accepts, limit=_QUEUE_LIMIT) as news:
        await socket.accept()
        session = _Session(socket, news, target)
        counts = await gateway.store.jobs.counts(deployment_id)
        await session.say_status(counts.queued + counts.active, sid)
        for attempt in gateway.runtime.fleet(deployment_id).running:
            if attempt.job.client_id == sid and attempt.current_node is not None:
                # What a client that comes back gets from ComfyUI: no prompt id.
                await session.say("executing", {"node": attempt.current_node})
        async with TaskScope("ws") as scope:
            sender = scope.spawn(session.send(), name="send")
            receiver = scope.spawn(session.receive(), name="receive")
            await asyncio.wait({sender, receiver}, return_when=asyncio.FIRST_COMPLETED)
        if socket.client_state is WebSocketState.CONNECTED and session.is_hopeless:
            await socket.close(_TRY_AGAIN_LATER, "too slow")


class _Session:
    """One connection and what its client announced."""

    def __init__(self, socket: WebSocket, news: Subscription, target: Target) -> None:
        self._socket = socket
        self._news = news
        self._target = target
        self._wants_metadata = False

    @property
    def is_hopeless(self) -> bool:
        """Whether the client reads too slowly to be served at all."""
        return len(self._news) > _HOPELESS

    async def say(self, kind: str, data: Mapping[str, Any]) -> None:
        """Send one JSON message."""
        await self._socket.send_text(msgspec.json.encode({"type": kind, "data": data}).decode())

    async def say_status(self, remaining: int, sid: str | None = None) -> None:
        """Send the length of the queue; the first one carries the session id."""
        data: dict[str, Any] = {"status": {"exec_info": {"queue_remaining": remaining}}}
        await self.say("status", data if sid is None else {**data, "sid": sid})

    async def send(self) -> None:
        """Pass the news on until the connection ends or the reader is hopelessly behind."""
        try:
            while not self.is_hopeless:
                await self._pass_on(await self._news.get())
        except (WebSocketDisconnect, RuntimeError):
            return  # The client went while a message was on its way.

    async def receive(self) -> None:
        """Read until the client goes; only the feature flags that open a session mean something."""
        is_first = True
        try:
            while True:
                message = await self._socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                if is_first and message.get("text") is not None:
                    is_first = False
                    await self._shake_hands(message["text"])
        except (WebSocketDisconnect, RuntimeError):
            return

    async def _shake_hands(self, text: str) -> None:
        try:
            sent = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return
        if not isinstance(sent, dict) or sent.get("type") != "feature_flags":
            return
        flags = sent.get("data")
        self._wants_metadata = isinstance(flags, dict) and bool(
            flags.get("supports_preview_metadata")
        )
        await self.say("feature_flags", self._target.snapshot.answer("/features") or {})

    async def _pass_on(self, event: BusEvent) -> None:
        match event:
            case EngineMessage(kind=kind, data=data):
                await self.say(kind, data)
            case Preview():
                await self._socket.send_bytes(encode_preview(event, self._wants_metadata))
            case EngineFrame(payload=payload):
                await self._socket.send_bytes(payload)
            case QueueChanged(remaining=remaining):
                await self.say_status(remaining)
            case JobChanged() | ReplicaChanged():
                return


def encode_preview(preview: Preview, with_metadata: bool) -> bytes:  # noqa: FBT001 - the client's own flag
    """A preview frame: event 4 for clients that announced it, event 1 for the others."""
    if with_metadata:
        metadata = msgspec.json.encode(preview.metadata)
        head = struct.pack(">II", _PREVIEW_WITH_METADATA, len(metadata))
        return head + metadata + preview.image
    image_type = _IMAGE_TYPES.get(str(preview.metadata.get("image_type")), 1)
    return struct.pack(">II", _PREVIEW, image_type) + preview.image
