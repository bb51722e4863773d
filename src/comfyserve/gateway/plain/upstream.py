"""The client towards plain servers: streaming, without cookies, retries, or a time limit."""

from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp

_CONNECT_TIMEOUT_S = 10.0
# Servers close what is idle; reusing a connection in that moment loses a request.
_KEPT_S = 1.0
_BUFFER_BYTES = 256 * 1024
_LONGEST_HEADER_BYTES = 64 * 1024


@dataclass(slots=True)
class Delivery:
    """Whether a server had a connection for a request, and so may have begun with it."""

    is_connected: bool = False


def open_upstream() -> aiohttp.ClientSession:
    """A session for exchanges that are passed on as they are. A request's trace context is a Delivery."""
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_on_connection)
    trace.on_connection_create_end.append(_on_connection)
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=_BUFFER_BYTES,
        max_line_size=_LONGEST_HEADER_BYTES,
        max_field_size=_LONGEST_HEADER_BYTES,
        trace_configs=[trace],
    )


async def _on_connection(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    delivery = context.trace_request_ctx
    if isinstance(delivery, Delivery):
        delivery.is_connected = True
