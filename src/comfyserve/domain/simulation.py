"""What the same traffic would have cost under another policy: a replay, job by job, without a clock.

Scaling up follows the rule of the product itself (`domain/scaling.py`); replicas run one job at a
time, first come first served, and stop when they were idle for the policy's time-out.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.scaling import Load, desired
from comfyserve.domain.spec import Scaling


@dataclass(frozen=True, slots=True)
class Arrival:
    """One job of a trace: when it came (seconds since the epoch) and how long it held a replica."""

    at: float
    busy_s: float


@dataclass(frozen=True, slots=True)
class Policy:
    """How replicas are kept, and what they cost.

    `wake_s` is a replica's start. `bills_wake` says whether that has a price: here it has none, on
    most hosted platforms it has. `cost_per_job` is a fee on top of the seconds.
    """

    name: str
    scaling: Scaling
    price_per_hour: float
    wake_s: float = 0.0
    bills_wake: bool = False
    cost_per_job: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy made of a trace. Waits are seconds from a job's arrival to its start."""

    policy: Policy
    jobs: int
    wakes: int
    starting_s: float
    busy_s: float
    idle_s: float
    cost: float
    wait_p50_s: float
    wait_p95_s: float
    wait_max_s: float


class _Kind(IntEnum):
    """What happens; at one moment in this order."""

    READY = 0
    DONE = 1
    ARRIVAL = 2
    RIPE = 3


@dataclass(slots=True)
class _Replica:
    since: float
    is_idle: bool = False
    idle_count: int = 0


@dataclass(slots=True)
class _Sums:
    starting_s: float = 0.0
    busy_s: float = 0.0
    idle_s: float = 0.0
    wakes: int = 0
    waits: list[float] = field(default_factory=list)


def simulate(trace: Iterable[Arrival], policy: Policy) -> Outcome:
    """Replay a trace under one policy. It begins with the first arrival and ends with the last job.

    Raises InvalidInput for a trace without jobs.
    """
    jobs = sorted(trace, key=lambda job: job.at)
    if not jobs:
        raise InvalidInput("the trace has no jobs")
    sums = _Replay(jobs, policy).run()
    billed_s = sums.busy_s + sums.idle_s + (sums.starting_s if policy.bills_wake else 0.0)
    cost = billed_s / 3600.0 * policy.price_per_hour + len(jobs) * policy.cost_per_job
    waits = sorted(sums.waits)
    return Outcome(
        policy=policy,
        jobs=len(jobs),
        wakes=sums.wakes,
        starting_s=sums.starting_s,
        busy_s=sums.busy_s,
        idle_s=sums.idle_s,
        cost=cost,
        wait_p50_s=quantile(waits, 0.5),
        wait_p95_s=quantile(waits, 0.95),
        wait_max_s=waits[-1],
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the sorted `values` that at least `share` of them do not exceed."""
    return values[max(0, -int(-share * len(values) // 1) - 1)]


class _Replay:
    """The state of one replay; events lie on a heap by time, kind and order."""

    def __init__(self, jobs: Sequence[Arrival], policy: Policy) -> None:
        self._policy = policy
        self._order = itertools.count()
        self._heap: list[tuple[float, _Kind, int, Callable[[float], None]]] = []
        self._queue: deque[Arrival] = deque()
        self._idle: list[_Replica] = []
        self._starting = 0
        self._busy = 0
        self._sums = _Sums()
        self._end = jobs[0].at
        self._mean_job_s = sum(job.busy_s for job in jobs) / len(jobs)
        for job in jobs:
            self._push(job.at, _Kind.ARRIVAL, partial(self._arrive, job))
        # What is always on was on before the trace began.
        for _ in range(policy.scaling.min_replicas):
            self._rest(_Replica(jobs[0].at), jobs[0].at)

    def run(self) -> _Sums:
        """Go through all events."""
        while self._heap:
            now, _, _, happen = heapq.heappop(self._heap)
            happen(now)
            self._dispatch(now)
            self._scale(now)
        for replica in self._idle:  # those that `min_replicas` keeps
            self._sums.idle_s += max(0.0, self._end - replica.since)
        return self._sums

    def _push(self, at: float, kind: _Kind, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._heap, (at, kind, next(self._order), happen))

    def _become_ready(self, replica: _Replica, now: float) -> None:
        self._starting -= 1
        self._sums.starting_s += now - replica.since
        self._rest(replica, now)

    def _finish(self, replica: _Replica, now: float) -> None:
        self._busy -= 1
        self._end = now
        self._sums.busy_s += now - replica.since
        self._rest(replica, now)

    def _arrive(self, job: Arrival, _: float) -> None:
        self._queue.append(job)

    def _rest(self, replica: _Replica, now: float) -> None:
        replica.since, replica.is_idle = now, True
        replica.idle_count += 1
        self._idle.append(replica)
        ripe_at = now + self._policy.scaling.idle_timeout_s
        self._push(ripe_at, _Kind.RIPE, partial(self._cull, replica, replica.idle_count))

    def _cull(self, replica: _Replica, count: int, now: float) -> None:
        """Stop a replica, if it has been idle ever since this was planned and may go."""
        is_same = replica.is_idle and replica.idle_count == count
        live = self._starting + self._busy + len(self._idle)
        if is_same and live > self._policy.scaling.min_replicas:
            self._idle.remove(replica)
            self._sums.idle_s += now - replica.since

    def _dispatch(self, now: float) -> None:
        while self._queue and self._idle:
            job, replica = self._queue.popleft(), self._idle.pop()
            self._sums.idle_s += now - replica.since
            self._sums.waits.append(now - job.at)
            replica.since, replica.is_idle = now, False
            self._busy += 1
            self._push(now + job.busy_s, _Kind.DONE, partial(self._finish, replica))

    def _scale(self, now: float) -> None:
        load = Load(
            queued=len(self._queue),
            busy=self._busy,
            starting=self._starting,
            idle=tuple(("", 0.0) for _ in self._idle),
            expected_job_s=self._mean_job_s,
            wake_s=self._policy.wake_s,
        )
        for _ in range(desired(load, self._policy.scaling) - load.observed):
            self._starting += 1
            self._sums.wakes += 1
            ready = partial(self._become_ready, _Replica(now))
            self._push(now + self._policy.wake_s, _Kind.READY, ready)
