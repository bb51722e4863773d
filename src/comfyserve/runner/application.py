"""Load the user's application and serve it on a socket: the only server-side place that runs it."""

import asyncio
import socket
import sys
from pathlib import Path

import uvicorn

from comfyserve.domain.errors import ComfyserveError
from comfyserve.sdk.app import App
from comfyserve.sdk.errors import ClientError
from comfyserve.sdk.loading import load_handler
from comfyserve.sdk.serving import ServedApp, as_asgi
from comfyserve.sdk.source import Source

_GRACE_S = 10


def serve(directory: Path, handler: str, listener: socket.socket) -> int:
    """Serve until SIGTERM; return the exit code: 1 for what cannot be loaded or started."""
    try:
        app = _load(directory, handler)
    except ComfyserveError as error:
        for line in error.evidence if isinstance(error, ClientError) else ():
            sys.stderr.write(f"{line}\n")
        sys.stderr.write(f"comfyserve: {error.message}\n")
        return 1
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = uvicorn.Server(config)
    # One that is not ready must not be asked: the port opens when the application has started.
    asyncio.run(server.serve([listener]))
    return 0 if server.started else 1


def _load(directory: Path, handler: str) -> ServedApp:
    """The application behind a handler: one that was declared with `@asgi`, or any ASGI object."""
    found = load_handler(Source(directory.resolve(), handler))
    if isinstance(found, App):
        return found.local()
    app = as_asgi(found, f"'{handler}'")
    return ServedApp(lambda: app)
