"""A warm job end to end: directly to the engine, and through the gateway."""

import time

from bench import prompts
from bench.client import Client
from bench.processes import EngineUnderTest, plain_engine, server
from bench.rows import Row, latency, percentile

_WARM_UPS = 10
_RUNS = 120
_LONGEST_S = 150.0
# More than half a second of work on either engine, as a quick diffusion takes; ComfyUI has the quicker nodes.
_SIDE, _SIDE_COMFYUI = 1024, 3072


async def warm(engine: EngineUnderTest) -> list[Row]:
    """The same job on both sides in turns, so that both see the same noise."""
    side = _SIDE_COMFYUI if engine.is_real else _SIDE
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
            direct.append(await direct_client.run(prompts.photo(number, side)))
            through.append(await our_client.run(prompts.photo(number, side)))
    direct, through = direct[_WARM_UPS:], through[_WARM_UPS:]
    added_s = percentile(through, 50) - percentile(direct, 50)
    return [
        Row("warm job, added at p50", added_s * 1e3, None, "ms", ""),
        latency("warm job, p50", through, direct, 50, "ratio <= 1.05"),
        latency("warm job, p99", through, direct, 99, "ratio <= 1.10"),
    ]
