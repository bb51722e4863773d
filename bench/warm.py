"""A warm job end to end: directly to the engine, and through the gateway."""

import time

from bench import prompts
from bench.client import Client
from bench.processes import EngineUnderTest, plain_engine, server
from bench.rows import Row, latency

_WARM_UPS = 10
_RUNS = 120
_LONGEST_S = 100.0


async def warm(engine: EngineUnderTest) -> list[Row]:
    """The same job on both sides in turns, so that both see the same noise."""
    direct: list[float] = []
    through: list[float] = []
    async with (
        plain_engine(engine) as plain,
        server(engine) as ours,
        Client(plain.url) as direct_client,
        Client(ours.url) as our_client,
    ):
        ends_at = time.perf_counter() + _LONGEST_S
        for number in range(_WARM_UPS + _RUNS):
            if time.perf_counter() > ends_at:
                break  # a busy machine: fewer runs, the same turns
            direct.append(await direct_client.run(prompts.photo(number)))
            through.append(await our_client.run(prompts.photo(number)))
    direct, through = direct[_WARM_UPS:], through[_WARM_UPS:]
    return [
        latency("warm job, p50", through, direct, 50, "ratio <= 1.05"),
        latency("warm job, p99", through, direct, 99, "ratio <= 1.10"),
    ]
