"""Logs of a replica: the last lines, and what comes after them until it ends."""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from comfyserve.domain.errors import InvalidInput
from comfyserve.runtime.launchers.base import Launcher

_BYTES_PER_LINE = 256
_LONGEST_TAIL_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_PAUSE_S = 0.25
_TEXT = "text/plain; charset=utf-8"


async def log_response(
    launcher: Launcher, replica_id: str, lines: int, *, follow: bool
) -> Response:
    """The last `lines` lines as text; with `follow`, a stream that goes on to the end."""
    if not 0 <= lines <= 100_000:
        raise InvalidInput("tail must be between 0 and 100000 lines")
    tail = await _tail(launcher, replica_id, lines)
    if not follow:
        return Response(tail, media_type=_TEXT)
    return StreamingResponse(_follow(launcher, replica_id, tail), media_type=_TEXT)


async def _tail(launcher: Launcher, replica_id: str, lines: int) -> bytes:
    if lines == 0:
        return b""
    wanted = min(_LONGEST_TAIL_BYTES, max(_CHUNK_BYTES, lines * _BYTES_PER_LINE))
    data = await launcher.logs(replica_id, tail_bytes=wanted)
    return b"".join(data.splitlines(keepends=True)[-lines:])


async def _follow(launcher: Launcher, replica_id: str, tail: bytes) -> AsyncIterator[bytes]:
    """Poll: the log is a file that another process writes, perhaps on another host."""
    yield tail
    offset = (await launcher.read_log(replica_id, offset=2**62, limit_bytes=1)).end
    while True:
        status = await launcher.get(replica_id)
        chunk = await launcher.read_log(replica_id, offset=offset, limit_bytes=_CHUNK_BYTES)
        offset = chunk.end
        if chunk.data:
            yield chunk.data
        elif status is None or status.is_gone:
            return
        else:
            await asyncio.sleep(_PAUSE_S)
