"""Logs of a replica: the last lines, and what comes after them until it ends."""

from starlette.responses import Response, StreamingResponse

from comfyserve.domain.errors import InvalidInput
from comfyserve.runtime.replica_logs import ReplicaLogs, last_lines

_BYTES_PER_LINE = 256
_SHORTEST_TAIL_BYTES = 64 * 1024
_LONGEST_TAIL_BYTES = 8 * 1024 * 1024
_TEXT = "text/plain; charset=utf-8"


async def log_response(logs: ReplicaLogs, replica_id: str, lines: int, *, follow: bool) -> Response:
    """The last `lines` lines as text; with `follow`, a stream that goes on to the end."""
    if not 0 <= lines <= 100_000:
        raise InvalidInput("tail must be between 0 and 100000 lines")
    size = min(_LONGEST_TAIL_BYTES, max(_SHORTEST_TAIL_BYTES, lines * _BYTES_PER_LINE))
    if follow:
        return StreamingResponse(logs.follow(replica_id, lines, size), media_type=_TEXT)
    tail = last_lines(await logs.tail(replica_id, size), lines) if lines else b""
    return Response(tail, media_type=_TEXT)
