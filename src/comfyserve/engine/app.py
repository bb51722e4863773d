"""The web application: every route, with and without `/api`, and the check of where requests come from."""

import asyncio
import ipaddress
import logging
import signal
import threading
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from comfyserve.engine import (
    file_routes,
    info_routes,
    job_routes,
    prompt_routes,
    upload_routes,
    user_routes,
    ws,
)
from comfyserve.engine.faults import FaultKind, kill_self, sleep_for_ever
from comfyserve.engine.state import ENGINE, Engine
from comfyserve.engine.worker import Worker

_log = logging.getLogger(__name__)


def create_app(engine: Engine) -> web.Application:
    """Return the application for this engine."""
    app = web.Application(
        client_max_size=engine.options.max_upload_bytes, middlewares=[_same_origin_only]
    )
    app[ENGINE] = engine
    for module in (
        prompt_routes,
        job_routes,
        info_routes,
        file_routes,
        upload_routes,
        user_routes,
        ws,
    ):
        for route in module.routes():
            twin = web.RouteDef(route.method, "/api" + route.path, route.handler, route.kwargs)
            app.add_routes([route, twin])
    app.add_routes(info_routes.plain_routes())
    return app


@web.middleware
async def _same_origin_only(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuse what a page from elsewhere sends to this machine, as ComfyUI does."""
    if request.headers.get("Sec-Fetch-Site") == "cross-site" or _is_foreign(request):
        return web.Response(status=403)
    if request.method == "OPTIONS":
        return web.Response()
    return await handler(request)


def _is_foreign(request: web.Request) -> bool:
    if "Host" not in request.headers or "Origin" not in request.headers:
        return False
    host = urlsplit("//" + request.headers["Host"].lower())
    origin = urlsplit(request.headers["Origin"].lower())
    if not _is_loopback(host.hostname) or not host.hostname or not origin.hostname:
        return False
    if host.port is None or origin.port is None:
        return host.hostname != origin.hostname
    return host.netloc != origin.netloc


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


async def serve(engine: Engine) -> None:
    """Listen and run prompts until SIGTERM or SIGINT.

    Raises:
        OSError: it cannot listen there; with `EADDRINUSE` because another program does.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGTERM, _on_sigterm(engine, stop))
    runner = web.AppRunner(create_app(engine), access_log=None)
    await runner.setup()
    engine.hub.open(loop)
    await _listen(engine, runner)
    Worker(engine).start()
    _arm(engine, loop)
    async with asyncio.TaskGroup() as group:
        publisher = group.create_task(engine.hub.publish(), name="publisher")
        await stop.wait()
        publisher.cancel()
    # Open sockets and a running prompt are dropped, as when a ComfyUI is told to end.


async def _listen(engine: Engine, runner: web.AppRunner) -> None:
    _log.info("Starting server\n")
    port = engine.options.port
    for address in engine.options.addresses:
        await web.TCPSite(runner, address, port).start()
        port = runner.addresses[0][1]
        shown = f"[{address}]" if ":" in address else address
        _log.info("To see the GUI go to: http://%s:%d", shown, port)


def _on_sigterm(engine: Engine, stop: asyncio.Event) -> Callable[[], None]:
    slow = engine.faults.find(FaultKind.SLOW_STOP)

    def end() -> None:
        if engine.faults.find(FaultKind.IGNORE_SIGTERM):
            _log.info("fault: ignoring SIGTERM")
        elif slow is not None:
            _log.info("fault: ending in %s seconds", slow.argument)
            asyncio.get_running_loop().call_later(slow.number, stop.set)
        else:
            stop.set()

    return end


def _arm(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
    """Set off the faults that strike after a while."""
    mute = engine.faults.find(FaultKind.MUTE)
    if mute is not None:
        loop.call_later(mute.number, sleep_for_ever)
    crash = engine.faults.find(FaultKind.CRASH_AFTER)
    if crash is not None:
        threading.Timer(crash.number, kill_self).start()
