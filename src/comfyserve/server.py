"""The composition root: builds every part in one place, in the order in which they depend."""

import asyncio
import gc
import logging
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import structlog

from comfyserve.build.artifacts import Artifacts
from comfyserve.clock import SystemClock
from comfyserve.gateway.app import GatewayApp
from comfyserve.gateway.context import Gateway
from comfyserve.gateway.histories import Histories
from comfyserve.gateway.listeners import Listeners, bind
from comfyserve.gateway.plain.upstream import open_upstream
from comfyserve.gateway.public import front, public_side
from comfyserve.runtime.budgets import Budgets
from comfyserve.runtime.building import BuildHost, make_builds
from comfyserve.runtime.bus import Bus
from comfyserve.runtime.courier import Courier
from comfyserve.runtime.deploy import Deployer
from comfyserve.runtime.gpus import ask_inventory, visible
from comfyserve.runtime.image_records import ImageRecorder
from comfyserve.runtime.launchers.local import LocalLauncher
from comfyserve.runtime.outside import Outside
from comfyserve.runtime.runtime import Runtime
from comfyserve.runtime.supervisor import Parts
from comfyserve.runtime.volumes import VolumeModels
from comfyserve.settings import Settings
from comfyserve.store import open_store
from comfyserve.store.home import HomeLock

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ready:
    """A server that listens: where, and the names of its deployments."""

    url: str
    deployments: tuple[str, ...]


async def serve(settings: Settings, *, on_ready: Callable[[Ready], None] | None = None) -> None:
    """Run a server until SIGINT or SIGTERM; `on_ready` is told once it listens.

    Raises HomeInUse, Conflict `port_in_use`, StorageFull, and what the launcher cannot open.
    """
    configure_logs(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with running(settings) as ready:
            _spare_what_stays()
            if on_ready is not None:
                on_ready(ready)
            await stop.wait()
            log.info("Stopping: running jobs may end.", event_key="stopping")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _spare_what_stays() -> None:
    """What is loaded by now lives as long as the server: the garbage collector need not visit it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Ready]:
    """A whole server for as long as the context lasts."""
    settings.check()
    clock, home = SystemClock(), settings.home_path
    async with AsyncExitStack() as stack:
        lock = HomeLock(home, url=settings.server_url, now=clock.now())
        await stack.enter_async_context(lock)
        listener = bind(settings.host, settings.port)
        stack.callback(listener.close)
        store = await stack.enter_async_context(open_store(home, settings.db))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None),
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                auto_decompress=False,
            )
        )
        outside = await stack.enter_async_context(Outside(settings.outside_policy))
        base_url = settings.url.rstrip("/") or _public_url(settings) or url_of(listener)
        jitter = random.SystemRandom().random
        courier = await stack.enter_async_context(Courier(store, outside, clock, jitter, base_url))
        upstream = await stack.enter_async_context(open_upstream())
        bus = Bus()
        inventory = await ask_inventory()
        launcher = LocalLauncher(
            home / "replicas",
            environ=os.environ,
            gpus=visible(inventory.gpus, os.environ.get("CUDA_VISIBLE_DEVICES")),
            clock=clock,
        )
        runtime = Runtime(
            Parts(
                launcher,
                store,
                bus,
                clock,
                session,
                settings,
                gpu_types={gpu.uuid: gpu.type for gpu in inventory.gpus},
                images=Artifacts(home / "builds"),
                inside_url=url_of(listener),
            )
        )
        await runtime.start()
        stack.push_async_callback(runtime.stop)
        listeners = await stack.enter_async_context(Listeners(settings.host))
        budgets = Budgets(store.budgets, store.usage, clock)
        await budgets.start()
        deployer = Deployer(runtime)
        builds = await stack.enter_async_context(
            make_builds(
                runtime.parts,
                outside,
                BuildHost(os.environ, bool(inventory.gpus)),
                ImageRecorder(runtime, deployer),
            )
        )
        gateway = Gateway(
            store=store,
            runtime=runtime,
            deployer=deployer,
            bus=bus,
            clock=clock,
            settings=settings,
            histories=Histories(store.jobs),
            listeners=listeners,
            budgets=budgets,
            outside=outside,
            courier=courier,
            volumes=VolumeModels(home, clock),
            upstream=upstream,
            builds=builds,
        )
        app = GatewayApp(gateway)
        await stack.enter_async_context(public_side(gateway, app))
        await listeners.serve(front(settings, app), listener)
        for deployment in runtime.deployments:
            async with listeners.reserved(deployment.spec.port):
                pass
        url = url_of(listener)
        await lock.publish(url)
        try:
            yield Ready(url, tuple(each.name for each in runtime.deployments))
        finally:
            # While the gateway still answers, so that clients hear how their jobs end.
            await runtime.drain()


def configure_logs(settings: Settings) -> None:
    """Log lines go to stderr: a sentence with its fields, or one JSON object a line."""
    is_json = settings.log_format == "json"
    renderer = (
        structlog.processors.JSONRenderer()
        if is_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=0,
            # The default prints local variables, and with them secrets.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    trace = [structlog.processors.format_exc_info] if is_json else []
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *trace,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _public_url(settings: Settings) -> str:
    return settings.public.url if settings.public is not None else ""


def url_of(listener: socket.socket) -> str:
    """Where a client on this machine reaches the listener."""
    host, port = listener.getsockname()[:2]
    shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
