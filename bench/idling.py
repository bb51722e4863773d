"""Memory and CPU of a server with nothing to do."""

import asyncio

from bench.processes import EngineUnderTest, cpu_seconds, put_to_sleep, rss_bytes, server
from bench.rows import Row

_LOOK_S = 10.0


async def idle(engine: EngineUnderTest) -> list[Row]:
    """After a deployment that has gone to sleep."""
    async with server(engine) as ours:
        await put_to_sleep(ours.url)
        pid = ours.process.pid
        before = cpu_seconds(pid)
        await asyncio.sleep(_LOOK_S)
        cpu = (cpu_seconds(pid) - before) / _LOOK_S * 100
        memory = rss_bytes(pid) / 1e6
    return [
        Row("idle server, memory", memory, None, "MB", "< 100"),
        Row("idle server, CPU", cpu, None, "%", "< 0.5"),
    ]
