"""Who listens on `/ws`, and what they are told. The worker thread talks to it, the event loop sends."""

import asyncio
import json
import logging
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from aiohttp import web

from comfyserve.engine.faults import FaultKind, Faults

_log = logging.getLogger(__name__)
_SEND_TIMEOUT_S = 10


class BinaryEvent(IntEnum):
    """The first number of a binary frame."""

    PREVIEW = 1
    TEXT = 3
    PREVIEW_WITH_METADATA = 4


class ImageType(IntEnum):
    """The second number of a `BinaryEvent.PREVIEW` frame."""

    JPEG = 1
    PNG = 2

    @property
    def mime(self) -> str:
        """Return the content type."""
        return "image/jpeg" if self is ImageType.JPEG else "image/png"


@dataclass(frozen=True, slots=True)
class Preview:
    """An encoded preview image."""

    image_type: ImageType
    data: bytes


@dataclass(slots=True)
class Socket:
    """One open WebSocket and what its client can do."""

    connection: web.WebSocketResponse
    transport: asyncio.Transport | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    sent: int = 0

    def cut(self) -> None:
        """End the connection without a goodbye."""
        if self.transport is not None:
            self.transport.abort()


class Hub:
    """Sockets by client id. `send*` may be called on any thread; messages go out in that order."""

    def __init__(self, faults: Faults) -> None:
        self._sockets: dict[str, Socket] = {}
        self._outbox: asyncio.Queue[tuple[str | None, str | bytes]] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        drop = faults.find(FaultKind.DROP_SOCKETS)
        self._drop_after = None if drop is None else int(drop.number)
        self.running_client: str | None = None
        """The client whose prompt runs."""
        self.running_node: str | None = None
        """The node that runs; a client that comes back is told."""

    def send(self, event: str, data: Mapping[str, Any], sid: str | None = None) -> None:
        """Tell one client, or all where `sid` is `None`."""
        self._post(sid, json.dumps({"type": event, "data": data}))

    def send_text(self, node_id: str, text: str, sid: str | None = None) -> None:
        """Show a line of text at a node."""
        name = node_id.encode()
        frame = struct.pack(">II", BinaryEvent.TEXT, len(name)) + name + text.encode()
        self._post(sid, frame)

    def send_preview(self, preview: Preview, sid: str | None) -> None:
        """Send a preview that does not say whose it is, for clients that cannot read more."""
        head = struct.pack(">II", BinaryEvent.PREVIEW, preview.image_type)
        self._post(sid, head + preview.data)

    def send_preview_with_metadata(
        self, preview: Preview, metadata: Mapping[str, Any], sid: str | None
    ) -> None:
        """Send a preview with the node and prompt that it belongs to."""
        about = json.dumps({**metadata, "image_type": preview.image_type.mime}).encode()
        head = struct.pack(">II", BinaryEvent.PREVIEW_WITH_METADATA, len(about))
        self._post(sid, head + about + preview.data)

    def supports(self, sid: str | None, flag: str) -> bool:
        """Whether the client announced this feature."""
        socket = self._sockets.get(sid or "")
        return socket is not None and socket.flags.get(flag) is True

    def _post(self, sid: str | None, message: str | bytes) -> None:
        # No loop: nobody listens yet, or no more.
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._outbox.put_nowait, (sid, message))

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take messages from now on; `publish` runs on this loop."""
        self._loop = loop

    async def publish(self) -> None:
        """Send what is posted, one after the other, until cancelled."""
        while True:
            sid, message = await self._outbox.get()
            if sid is None:
                for socket in list(self._sockets.values()):
                    await self._deliver(socket, message)
            elif sid in self._sockets:
                await self._deliver(self._sockets[sid], message)

    async def _deliver(self, socket: Socket, message: str | bytes) -> None:
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                if isinstance(message, str):
                    await socket.connection.send_str(message)
                else:
                    await socket.connection.send_bytes(message)
        except TimeoutError:
            # Nobody else hears anything while one does not read.
            _log.warning("cutting a socket that took nothing for %d seconds", _SEND_TIMEOUT_S)
            socket.cut()
        except ConnectionError as error:
            _log.warning("send error: %s", error)
        socket.sent += 1
        if self._drop_after is not None and socket.sent >= self._drop_after:
            _log.info("fault: cutting a socket after %d messages", socket.sent)
            socket.cut()

    def join(self, sid: str, socket: Socket) -> None:
        """Add a socket; one of the same id hears nothing any more, but stays open."""
        self._sockets[sid] = socket

    def leave(self, sid: str) -> None:
        """Forget whoever has this id now, as ComfyUI does: a late leaver takes its successor along."""
        self._sockets.pop(sid, None)
