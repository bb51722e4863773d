"""How long the page of an endpoint takes to load while everything sleeps."""

import re
import time

import aiohttp

from bench.processes import EngineUnderTest, put_to_sleep, server
from bench.prompts import tiny
from bench.rows import Row, percentile

_ROUNDS = 30
_BROWSER = {"Accept": "text/html"}
_NAMED = re.compile(r'(?:href|src)="(_page/[^"]+)"')
_IMPORTED = re.compile(r'from "\./(\w+\.js)"')


async def playground(engine: EngineUnderTest) -> list[Row]:
    """The page, its files and the interface, as a browser without a cache gets them."""
    async with server(engine) as ours, aiohttp.ClientSession(raise_for_status=True) as session:
        publish = {"workflow": tiny(1)}
        await session.put(f"{ours.url}/api/v1/endpoints/tiny", json=publish)
        await put_to_sleep(ours.url)
        taken, size = [], 0
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            size = await _load(session, f"{ours.url}/run/tiny")
            taken.append(time.perf_counter() - began)
    return [
        Row(
            "playground page load, all files, p50", percentile(taken, 50) * 1e3, None, "ms", "< 50"
        ),
        Row("playground page, size of all files", size / 1e3, None, "KB", "< 100"),
    ]


async def _load(session: aiohttp.ClientSession, url: str) -> int:
    """Get everything once, each module after the one that imports it; the bytes of all."""
    base = url.rpartition("/")[0]
    body = await _get(session, url, _BROWSER)
    waiting = [name.removeprefix("_page/") for name in _NAMED.findall(body.decode())]
    size, known = len(body), set(waiting)
    while waiting:
        body = await _get(session, f"{base}/_page/{waiting.pop(0)}")
        found = [name for name in _IMPORTED.findall(body.decode()) if name not in known]
        known.update(found)
        waiting += found
        size += len(body)
    return size + len(await _get(session, url))


async def _get(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str] | None = None
) -> bytes:
    async with session.get(url, headers=headers) as answer:
        return await answer.read()
