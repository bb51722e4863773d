"""A plain server: directly, and through the plain proxy. Latency, a large body, WebSocket echoes."""

import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from bench.processes import EngineUnderTest, free_port, server
from bench.rows import Row, latency

_SERVER = Path(__file__).with_name("plain_server.py")
_WARM_UPS, _REQUESTS = 50, 1000
_ECHOES = 1000
_BODY_MB, _BODIES = 100, 3


async def plain(engine: EngineUnderTest) -> list[Row]:
    """The same server process on both sides, in turns: what differs is the gateway alone."""
    port = free_port()
    spec = {
        "engine": {
            "kind": "command",
            "command": [sys.executable, str(_SERVER), str(port)],
            "container_port": port,
        },
        "limits": {"concurrency": 16},
        "scaling": {"min_replicas": 1},
    }
    async with (
        server(engine) as ours,
        aiohttp.ClientSession(auto_decompress=False) as session,
        _deployed(session, ours.url, spec) as direct,
    ):
        through = f"{ours.url}/d/plain"
        return [
            *await _latencies(session, direct, through),
            *await _bodies(session, direct, through),
            *await _echoes(session, direct, through),
        ]


@asynccontextmanager
async def _deployed(
    session: aiohttp.ClientSession, url: str, spec: dict[str, object]
) -> AsyncIterator[str]:
    """Deploy it, wake it, and give the address at which its replica listens."""
    control = f"{url}/api/v1/deployments/plain"
    async with session.put(control, json=spec) as answer:
        answer.raise_for_status()
    async with session.get(f"{url}/d/plain/") as answer:
        answer.raise_for_status()
    async with session.get(control) as answer:
        [replica] = (await answer.json())["replicas"]
    try:
        yield replica["endpoint"]
    finally:
        async with session.delete(control) as answer:
            answer.raise_for_status()


async def _latencies(session: aiohttp.ClientSession, direct: str, through: str) -> list[Row]:
    taken: dict[str, list[float]] = {direct: [], through: []}
    for _ in range(_WARM_UPS + _REQUESTS):
        for url, times in taken.items():
            began = time.perf_counter()
            async with session.get(f"{url}/") as answer:
                await answer.read()
            times.append(time.perf_counter() - began)
    ours, theirs = taken[through][_WARM_UPS:], taken[direct][_WARM_UPS:]
    return [
        latency("plain request, p50", ours, theirs, 50, "small"),
        latency("plain request, p99", ours, theirs, 99, "small"),
    ]


async def _bodies(session: aiohttp.ClientSession, direct: str, through: str) -> list[Row]:
    rates: dict[str, list[float]] = {direct: [], through: []}
    for _ in range(_BODIES):
        for url, seen in rates.items():
            began = time.perf_counter()
            async with session.get(f"{url}/body?mb={_BODY_MB}") as answer:
                async for _chunk in answer.content.iter_any():
                    pass
            seen.append(_BODY_MB / (time.perf_counter() - began))
    ours, theirs = statistics.median(rates[through]), statistics.median(rates[direct])
    return [Row(f"plain body of {_BODY_MB} MB", ours, theirs, "MB/s", "-")]


async def _echoes(session: aiohttp.ClientSession, direct: str, through: str) -> list[Row]:
    taken: dict[str, float] = {}
    for url in (direct, through):
        async with session.ws_connect(f"{url}/ws", compress=0) as wire:
            began = time.perf_counter()
            for number in range(_ECHOES):
                await wire.send_str(str(number))
                await wire.receive_str()
            taken[url] = time.perf_counter() - began
    what = f"{_ECHOES} WebSocket echoes"
    return [Row(what, taken[through], taken[direct], "s", "small")]
