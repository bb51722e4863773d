"""From nothing to the first result: a plain start of the engine, and a wake."""

import time

from bench import prompts
from bench.client import Client
from bench.processes import EngineUnderTest, plain_engine, put_to_sleep, server
from bench.rows import Row, latency

_RUNS = 16


async def wake(engine: EngineUnderTest) -> list[Row]:
    """A start and a wake in turns; who comes first changes, as machines change their pace."""
    direct: list[float] = []
    woken: list[float] = []
    async with server(engine) as ours, Client(ours.url) as client:

        async def start(number: int) -> None:
            began = time.perf_counter()
            async with plain_engine(engine) as plain, Client(plain.url) as direct_client:
                await direct_client.run(prompts.tiny(number))
                direct.append(time.perf_counter() - began)

        async def awake(number: int) -> None:
            woken.append(await client.run(prompts.tiny(number)))
            await put_to_sleep(ours.url)  # or it would compete with the next start

        for number in range(_RUNS):
            for each in (start, awake) if number % 2 else (awake, start):
                await each(number)
    return [latency("wake to first result, p50", woken, direct, 50, "ratio <= 1.05")]
