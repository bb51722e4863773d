"""How long `from comfyserve import ...` takes, beside Python's own start."""

import asyncio
import sys
import time

from bench.processes import EngineUnderTest
from bench.rows import Row, percentile

_RUNS = 15
_NAMES = "ComfyUI, Image, Output, Pod, Secret, Volume, asgi, context"
_GOAL = "<= 150 ms more than Python alone"


async def imports(_engine: EngineUnderTest) -> list[Row]:
    """Processes in turns, so that a busy moment hits both."""
    ours, theirs = [], []
    for _ in range(_RUNS):
        theirs.append(await _seconds("pass"))
        ours.append(await _seconds(f"from comfyserve import {_NAMES}"))
    shown = [percentile(seconds, 50) * 1e3 for seconds in (ours, theirs)]
    return [Row("SDK: a script that imports all of it, p50", shown[0], shown[1], "ms", _GOAL)]


async def _seconds(code: str) -> float:
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    await process.wait()
    return time.perf_counter() - began
