"""What a replica is metered as, against what the operating system saw of its process."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import aiohttp

from bench import prompts
from bench.client import Client
from bench.processes import EngineUnderTest, put_to_sleep, server
from bench.rows import Row

_LIFE_S = 40.0
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


async def metering(engine: EngineUnderTest) -> list[Row]:
    """One replica: woken by a job, left idle, stopped."""
    async with server(engine) as ours, aiohttp.ClientSession(ours.url) as session:
        async with Client(ours.url) as client:
            await client.run(prompts.tiny(1))
        (replica,) = (await _get(session, "/api/v1/replicas"))["replicas"]
        began = _started_at(replica["pid"])
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(_end_of(replica["pid"]))
            await asyncio.sleep(began + _LIFE_S - _now())
            await put_to_sleep(ours.url)
        life_s = ended.result() - began
        replicas = (await _get(session, "/api/v1/usage"))["replicas"]
        (metered,) = (each["awake_s"] for each in replicas if each["id"] == replica["id"])
    return [Row("replica awake, as metered", metered, life_s, "s", "within 0.1 %")]


async def _get(session: aiohttp.ClientSession, path: str) -> Any:  # noqa: ANN401 - the JSON border
    async with session.get(path) as answer:
        return json.loads(await answer.read())


async def _end_of(pid: int) -> float:
    """When a process ended."""
    ended = asyncio.Event()
    loop, pidfd = asyncio.get_running_loop(), os.pidfd_open(pid)
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
        return _now()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def _started_at(pid: int) -> float:
    """When a process began; the kernel tells it in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / _CLOCK_TICKS


def _now() -> float:
    """Seconds since the machine began."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
