"""The caller's side of one exchange: its body in pieces, and the moment at which it goes away."""

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Receive

from comfyserve.domain.errors import PayloadTooLarge

# Each is what the server reads at once; while they wait, its reading from the caller stops.
_MOST_PIECES = 4


class CallerGone(Exception):
    """The caller went away in the middle of its body."""


class Inbound:
    """Reads what a caller sends. `run` ends when the caller is gone, and not before."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_PIECES)
        self._is_whole = False
        self._is_gone = False
        self._first: bytes | None = None

    async def run(self) -> None:
        """Pass the body on, then wait for the end of the connection."""
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                self._is_gone = True
                if not self._is_whole:
                    await self._pieces.put(None)
                return
            if body := message.get("body"):
                await self._pieces.put(body)
            if not message.get("more_body") and not self._is_whole:
                self._is_whole = True
                await self._pieces.put(None)

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body, of at most `limit_bytes`; it can be streamed on afterwards all the same.

        Raises PayloadTooLarge and CallerGone.
        """
        pieces, size = [], 0
        async for piece in self.pieces():
            pieces.append(piece)
            size += len(piece)
            if size > limit_bytes:
                raise PayloadTooLarge(
                    f"the body is larger than {limit_bytes} bytes (setting max_body_bytes)"
                )
        self._first = b"".join(pieces)
        return self._first

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises CallerGone: what was sent then is not all of it."""
        if self._first is not None:
            yield self._first
            return
        while (piece := await self._pieces.get()) is not None:
            yield piece
        if self._is_gone and not self._is_whole:
            raise CallerGone
