"""The doors beside each other: how soon a caller hears of its job, and how many can listen at once."""

import asyncio
import json
import time
from typing import Any

import aiohttp

from bench.processes import EngineUnderTest, server
from bench.prompts import sleeping, tiny
from bench.rows import Row, percentile

_RUNS = 40
_LISTENERS = 200
_NAME = "tiny"


async def doors(engine: EngineUnderTest) -> list[Row]:
    """From the submission to the first word about the job, at each door; and 200 listeners to one job."""
    async with (
        server(engine) as ours,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        url = ours.url
        await _publish(session, url, _NAME, tiny(1))
        rows = []
        for what, first_word in (
            ("native door (WebSocket)", _native),
            ("Comfy API v2 (SSE)", _v2),
            ("typed door (SSE on the request)", _typed),
        ):
            for _ in range(5):
                await first_word(session, url)
            times = [await first_word(session, url) * 1e3 for _ in range(_RUNS)]
            label = f"submission to first event, {what}, p50"
            rows.append(Row(label, percentile(times, 50), None, "ms", ""))
        return [*rows, *(await _fan_out(session, url))]


async def _publish(
    session: aiohttp.ClientSession,
    url: str,
    name: str,
    prompt: Any,  # noqa: ANN401 - a prompt
) -> None:
    body = {"workflow": prompt}
    async with session.put(f"{url}/api/v1/endpoints/{name}", json=body) as answer:
        answer.raise_for_status()


async def _native(session: aiohttp.ClientSession, url: str) -> float:
    async with session.ws_connect(f"{url}/ws?clientId=bench") as socket:
        await socket.receive()
        began = time.perf_counter()
        body = {"prompt": tiny(time.perf_counter_ns()), "client_id": "bench"}
        async with session.post(f"{url}/prompt", json=body) as answer:
            answer.raise_for_status()
        heard = None
        async for frame in socket:
            if frame.type is not aiohttp.WSMsgType.TEXT:
                continue
            message = json.loads(frame.data)
            heard = heard or time.perf_counter() - began
            if message["type"] == "executing" and message["data"].get("node") is None:
                return heard
    raise RuntimeError("the WebSocket closed before the job ended")


async def _v2(session: aiohttp.ClientSession, url: str) -> float:
    began = time.perf_counter()
    body = {"workflow": tiny(time.perf_counter_ns())}
    async with session.post(f"{url}/api/v2/jobs", json=body) as answer:
        job = await answer.json()
    return await _first_event(session.get(f"{url}{job['urls']['events']}"), began)


async def _typed(session: aiohttp.ClientSession, url: str) -> float:
    began = time.perf_counter()
    request = session.post(f"{url}/run/{_NAME}", json={}, headers={"Accept": "text/event-stream"})
    return await _first_event(request, began)


async def _first_event(request: Any, began: float) -> float:  # noqa: ANN401 - aiohttp's own
    async with request as answer:
        answer.raise_for_status()
        heard = None
        async for line in answer.content:
            if line.startswith(b"event:"):
                heard = heard or time.perf_counter() - began
        if heard is None:
            raise RuntimeError("the stream ended without an event")
        return heard


async def _fan_out(session: aiohttp.ClientSession, url: str) -> list[Row]:
    """All listen to one running job; how late the last of them hears its end."""
    async with session.post(f"{url}/prompt", json={"prompt": sleeping(7, 3.0)}) as answer:
        job_id = (await answer.json())["prompt_id"]
    ends = await asyncio.gather(*(_heard_end(session, url, job_id) for _ in range(_LISTENERS)))
    first, last = min(ends), max(ends)
    what = f"end of a job told to {_LISTENERS} listeners, first to last"
    return [Row(what, (last - first) * 1e3, None, "ms", "< 1000 ms")]


async def _heard_end(session: aiohttp.ClientSession, url: str, job_id: str) -> float:
    async with session.get(f"{url}/jobs/{job_id}/events") as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if line.startswith(b"event: end"):
                return time.perf_counter()
    raise RuntimeError("a stream ended before its job")
