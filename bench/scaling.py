"""Throughput with N replicas of sleeping nodes against N times one replica."""

import asyncio
import time
from collections.abc import Sequence

from bench import prompts
from bench.client import Client, Prompt
from bench.processes import EngineUnderTest, replicas_of, server
from bench.rows import Row

_JOBS_EACH = 5


async def efficiency(
    engine: EngineUnderTest, *, replicas: Sequence[int] = (2, 4, 8), job_s: float = 2.0
) -> list[Row]:
    """Each replica has the same number of jobs to do, and so would need the same time."""
    one = await _seconds(engine, 1, job_s)
    return [
        Row(
            f"efficiency at {count} replicas",
            one / await _seconds(engine, count, job_s),
            None,
            "of 1",
            ">= 0.95",
        )
        for count in replicas
    ]


async def _seconds(engine: EngineUnderTest, replicas: int, job_s: float) -> float:
    """How long so many replicas need for five jobs each."""
    async with server(engine, max_replicas=replicas) as ours:
        await _wake_all(ours.url, replicas)
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(replicas * _JOBS_EACH):
                group.create_task(_run_alone(ours.url, prompts.sleeping(number, job_s)))
        return time.perf_counter() - began


async def _run_alone(url: str, prompt: Prompt) -> None:
    async with Client(url) as client:
        await client.run(prompt)


async def _wake_all(url: str, count: int) -> None:
    """Pile up work until every replica is ready, then let it drain."""
    async with asyncio.TaskGroup() as group:
        for number in range(count * 3):
            group.create_task(_run_alone(url, prompts.sleeping(10_000 + number, 2.0)))
    if await replicas_of(url) != count:
        raise RuntimeError(f"expected {count} replicas, got {await replicas_of(url)}")
