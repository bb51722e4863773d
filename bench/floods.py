"""Many requests at once, over raw sockets: prompts accepted, history entries read."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench import prompts
from bench.client import Client, raw_request, requests_a_second
from bench.processes import (
    EngineUnderTest,
    Running,
    cpu_seconds,
    plain_engine,
    put_to_sleep,
    server,
)
from bench.rows import Row

_AT_ONCE = 32
_ROUNDS = 5
# Nodes, prompts in a round, goal: the official templates of ComfyUI have 12 nodes on average, 8 at the median.
_SIZES = ((2, 1000, ""), (8, 600, ""), (12, 600, "ratio >= 2, durable"), (30, 300, ""))


@dataclass(slots=True)
class _Side:
    """What one of the two answered: rates, and CPU seconds a request."""

    running: Running
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    async def take(self, requests: Sequence[bytes]) -> None:
        """Send one round of requests."""
        before = cpu_seconds(self.running.process.pid)
        self.rates.append(await requests_a_second(self.running.url, requests, at_once=_AT_ONCE))
        spent = cpu_seconds(self.running.process.pid) - before
        self.costs.append(spent / len(requests))


async def accepts(engine: EngineUnderTest) -> list[Row]:
    """Prompts accepted while the engine sleeps in a node; nothing else runs on either side."""
    rows = []
    async with (
        plain_engine(engine) as plain,
        server(engine) as ours,
        Client(ours.url) as our_client,
        Client(plain.url) as direct_client,
    ):
        for client in (our_client, direct_client):
            prompt_id = await client.submit(prompts.sleeping(0, 600, steps=6000))
            await client.began(prompt_id)
        for nodes, count, goal in _SIZES:
            sides = _Side(ours), _Side(plain)
            # The first round warms up.
            for turn in range(_ROUNDS + 1):
                numbers = range(turn * count, (turn + 1) * count)
                bodies = [{"prompt": prompts.chain(number, nodes)} for number in numbers]
                requests = [raw_request("POST", "/prompt", body) for body in bodies]
                for side in sides:
                    await side.take(requests)
            rows += _rows(f"prompts of {nodes} nodes accepted", *sides, goal, "")
    return rows


async def histories(engine: EngineUnderTest, *, count: int = 1500) -> list[Row]:
    """`GET /history/{id}`: the engine awake, we asleep."""
    async with plain_engine(engine) as plain, server(engine) as ours:
        sides = _Side(ours), _Side(plain)
        requests = []
        for side in sides:
            async with Client(side.running.url) as client:
                prompt_id = await client.submit(prompts.photo(1))
                await client.ended(prompt_id)
            requests.append([raw_request("GET", f"/history/{prompt_id}")] * count)
        await put_to_sleep(ours.url)
        for _ in range(_ROUNDS + 1):
            for side, its_requests in zip(sides, requests, strict=True):
                await side.take(its_requests)
    return _rows("history entries read", *sides, "ratio >= 1", "ratio <= 1")


def _rows(what: str, ours: _Side, theirs: _Side, rate_goal: str, cost_goal: str) -> list[Row]:
    rates = [statistics.median(side.rates[1:]) for side in (ours, theirs)]
    costs = [statistics.median(side.costs[1:]) * 1e6 for side in (ours, theirs)]
    return [
        Row(what, *rates, "1/s", rate_goal),
        Row(f"{what}: CPU for each", *costs, "us", cost_goal),
    ]
