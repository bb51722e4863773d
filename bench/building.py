"""How long an image takes to build again when only its last step changed."""

import asyncio
import time
from typing import Any

import aiohttp

from bench.processes import EngineUnderTest, server
from bench.rows import Row

_FILES = 2000
_POLL_S = 0.01


async def building(engine: EngineUnderTest) -> list[Row]:
    """A first build of an environment and a few thousand files, then one with another last step."""
    many = f"for i in $(seq {_FILES}); do echo $i > file-$i; done"
    async with server(engine) as ours, aiohttp.ClientSession(raise_for_status=True) as session:
        url = f"{ours.url}/api/v1/builds"
        first = await _build(session, url, [many, "echo one"])
        again = await _build(session, url, [many, "echo two"])
        same = await _build(session, url, [many, "echo two"])
    return [
        Row("rebuild, unchanged prefix, against the first build", again, first, "s", "< 0.5x"),
        Row("build of an image that is built", same, first, "s", "< 0.1x"),
    ]


async def _build(session: aiohttp.ClientSession, url: str, commands: list[str]) -> float:
    image = {"steps": [{"kind": "command", "command": command} for command in commands]}
    began = time.perf_counter()
    async with session.post(url, json=image) as answer:
        build: dict[str, Any] = await answer.json()
    while build["state"] in {"queued", "running"}:
        await asyncio.sleep(_POLL_S)
        async with session.get(f"{url}/{build['id']}") as answer:
            build = await answer.json()
    if build["state"] != "succeeded":
        raise RuntimeError(build["message"])
    return time.perf_counter() - began
