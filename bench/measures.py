"""What is measured, each as one function that returns the rows of its table."""

import asyncio
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench.client import Client, Prompt, raw_request, requests_a_second
from bench.processes import (
    EngineUnderTest,
    plain_engine,
    replicas_of,
    server,
)

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: ours, theirs (None: there is nothing to compare with), and the goal in words."""

    what: str
    ours: float
    theirs: float | None
    unit: str
    goal: str

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return self.ours / self.theirs if self.theirs else None


def photo_prompt(seed: int) -> Prompt:
    """A job of honest size: the work of the demo's nodes on one picture, never cached."""
    return {
        "1": _node("EmptyImage", width=1024, height=1024, batch_size=1, color=seed % 0xFFFFFF),
        "2": _node("ImageScale", image=["1", 0], upscale_method="bicubic", width=768, height=768,
                   crop="disabled"),
        "3": _node("ImageBlur", image=["2", 0], blur_radius=4, sigma=1.5),
        "4": _node("ImageBlend", image1=["2", 0], image2=["3", 0], blend_factor=0.5,
                   blend_mode="normal"),
        "5": _node("ImageSharpen", image=["4", 0], sharpen_radius=1, sigma=1.0, alpha=1.0),
        "6": _node("ImageInvert", image=["5", 0]),
        "7": _node("SaveImage", images=["6", 0], filename_prefix="bench"),
    }  # fmt: skip


def tiny_prompt(seed: int) -> Prompt:
    """The smallest job that runs."""
    return {
        "1": _node("EmptyImage", width=16, height=16, batch_size=1, color=seed % 0xFFFFFF),
        "2": _node("SaveImage", images=["1", 0], filename_prefix="tiny"),
    }


def sleeping_prompt(seed: int, seconds: float) -> Prompt:
    """A job that only waits (the embedded engine's own node)."""
    return {
        "1": _node("TestingSleep", seconds=seconds, steps=1, previews=False, tag=str(seed)),
        "2": _node("PreviewImage", images=["1", 0]),
    }


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:  # noqa: ANN401 - any input
    return {"class_type": class_type, "inputs": inputs}


async def warm_latency(engine: EngineUnderTest, *, runs: int = 120) -> list[Row]:
    """The same warm job directly and through the gateway, in turns."""
    direct: list[float] = []
    through: list[float] = []
    async with (
        plain_engine(engine) as plain,
        server(engine) as ours,
        Client(plain.url) as direct_client,
        Client(ours.url) as our_client,
    ):
        for number in range(10):
            await direct_client.run(photo_prompt(number))
            await our_client.run(photo_prompt(number))
        for number in range(10, runs + 10):
            direct.append(await direct_client.run(photo_prompt(number)))
            through.append(await our_client.run(photo_prompt(number)))
    return [
        _latency("warm job, p50", through, direct, 50, "ratio <= 1.05"),
        _latency("warm job, p99", through, direct, 99, "ratio <= 1.10"),
    ]


async def wake(engine: EngineUnderTest, *, runs: int = 7) -> list[Row]:
    """From nothing to the first result: a plain start of the engine, and a wake."""
    direct: list[float] = []
    woken: list[float] = []
    async with server(engine) as ours, Client(ours.url) as client:
        for number in range(runs):
            began = time.perf_counter()
            async with plain_engine(engine) as plain, Client(plain.url) as direct_client:
                await direct_client.run(tiny_prompt(number))
                direct.append(time.perf_counter() - began)
            await _put_to_sleep(ours.url)
            woken.append(await client.run(tiny_prompt(number)))
    return [_latency("wake to first result, p50", woken, direct, 50, "ratio <= 1.05")]


async def accepts(engine: EngineUnderTest, *, count: int = 3000) -> list[Row]:
    """Accepted prompts a second while the engine is busy with something else."""
    rates = []
    async with plain_engine(engine) as plain, server(engine) as ours:
        for url in (plain.url, ours.url):
            async with Client(url) as client:
                if not engine.is_real:
                    await client.submit(sleeping_prompt(0, 600))
                bodies = [{"prompt": tiny_prompt(number)} for number in range(count)]
                requests = [raw_request("POST", "/prompt", body) for body in bodies]
                rates.append(await requests_a_second(url, requests, at_once=16))
                await client.post("/queue", {"clear": True})
                await client.post("/interrupt", {})
    return [Row("accepted prompts", rates[1], rates[0], "1/s", "ratio >= 2, durable")]


async def histories(engine: EngineUnderTest, *, count: int = 6000) -> list[Row]:
    """`GET /history/{id}` a second: the engine awake, we asleep."""
    rates = []
    async with plain_engine(engine) as plain, server(engine) as ours:
        for url in (plain.url, ours.url):
            async with Client(url) as client:
                prompt_id = await client.submit(photo_prompt(1))
                await client.ended(prompt_id)
                if url == ours.url:
                    await _put_to_sleep(url)
                requests = [raw_request("GET", f"/history/{prompt_id}")] * count
                rates.append(await requests_a_second(url, requests, at_once=16))
    return [Row("history entries read at zero replicas", rates[1], rates[0], "1/s", "ratio >= 1")]


async def idle(engine: EngineUnderTest, *, seconds: float = 10.0) -> list[Row]:
    """Memory and CPU of a server with nothing to do."""
    async with server(engine) as ours:
        await _put_to_sleep(ours.url)
        pid = ours.process.pid
        before = _cpu_seconds(pid)
        await asyncio.sleep(seconds)
        cpu = (_cpu_seconds(pid) - before) / seconds * 100
        memory = _rss_bytes(pid) / 1e6
    return [
        Row("idle server, memory", memory, None, "MB", "< 100"),
        Row("idle server, CPU", cpu, None, "%", "< 0.5"),
    ]


async def efficiency(
    engine: EngineUnderTest, *, replicas: Sequence[int] = (2, 4, 8), job_s: float = 1.0
) -> list[Row]:
    """Throughput with N replicas of sleeping nodes against N times one replica."""
    rows = []
    for count in replicas:
        async with server(engine, max_replicas=count) as ours:
            await _wake_all(ours.url, count)
            jobs = count * 5
            began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for number in range(jobs):
                    group.create_task(_run_alone(ours.url, sleeping_prompt(number, job_s)))
            ideal = jobs / count * job_s
            share = ideal / (time.perf_counter() - began)
        rows.append(Row(f"efficiency at {count} replicas", share, None, "of 1", ">= 0.95"))
    return rows


async def _run_alone(url: str, prompt: Prompt) -> None:
    async with Client(url) as client:
        await client.run(prompt)


async def _wake_all(url: str, count: int) -> None:
    """Pile up work until every replica is ready, then let it drain."""
    async with asyncio.TaskGroup() as group:
        for number in range(count * 3):
            group.create_task(_run_alone(url, sleeping_prompt(10_000 + number, 2.0)))
    if await replicas_of(url) != count:
        raise RuntimeError(f"expected {count} replicas, got {await replicas_of(url)}")


async def _put_to_sleep(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/api/v1/replicas") as answer:
            found = json.loads(await answer.read())["replicas"]
        for replica in found:
            await session.post(f"{url}/api/v1/replicas/{replica['id']}/stop")
        while await replicas_of(url):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


def _latency(what: str, ours: list[float], theirs: list[float], percent: int, goal: str) -> Row:
    return Row(
        what, _percentile(ours, percent) * 1e3, _percentile(theirs, percent) * 1e3, "ms", goal
    )


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
