"""How many replicas a deployment should have: `decide` is the whole rule, and it is pure."""

import math
from dataclasses import dataclass

from comfyserve.domain.replica import Replica, ReplicaState
from comfyserve.domain.spec import Scaling

_SHORTEST_TURN_S = 1.0
_TURN_PER_WAKE = 5.0


@dataclass(frozen=True, slots=True)
class Load:
    """What the autoscaler sees of one deployment at one moment. Durations are seconds.

    `idle` maps a ready replica without work to how long it has been so, as far as this process
    has observed. `expected_job_s` and `wake_s` are measured averages, None while unknown.
    """

    queued: int = 0
    busy: int = 0
    starting: int = 0
    idle: tuple[tuple[str, float], ...] = ()
    expected_job_s: float | None = None
    wake_s: float | None = None
    is_active: bool = True

    @property
    def observed(self) -> int:
        """Replicas that work, or will once they have started."""
        return self.busy + self.starting + len(self.idle)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now: how many to start, which idle replicas to drain."""

    start: int = 0
    drain: tuple[str, ...] = ()

    @property
    def is_nothing(self) -> bool:
        """Whether observed already is desired."""
        return self.start == 0 and not self.drain


def desired(load: Load, scaling: Scaling) -> int:
    """Replicas wanted for the work there is, within `min_replicas..max_replicas`.

    One job needs one replica. Beyond what exists, another replica is worth its wake only if the
    backlog would take longer than the wake without it; with nothing measured yet, it is.
    """
    if not load.is_active:
        return 0
    demand = load.busy + load.queued
    if load.queued and load.expected_job_s is not None and load.wake_s:
        enough = math.ceil(min(demand, demand * load.expected_job_s / load.wake_s))
        demand = min(demand, max(load.observed, enough, 1))
    return max(scaling.min_replicas, min(scaling.max_replicas, demand))


def decide(load: Load, scaling: Scaling) -> Decision:
    """Compare desired with observed. Work is never taken from a busy or starting replica.

    Scale-up is immediate. Scale-down takes only replicas that were idle for a full
    `idle_timeout_s`, the longest idle first, and none while jobs wait.
    """
    want = desired(load, scaling)
    if want > load.observed:
        return Decision(start=want - load.observed)
    if load.queued and load.is_active:
        return Decision()
    surplus = load.observed - max(want, scaling.min_replicas if load.is_active else 0)
    timeout = scaling.idle_timeout_s if load.is_active else 0.0
    ripe = sorted((item for item in load.idle if item[1] >= timeout), key=lambda i: -i[1])
    return Decision(drain=tuple(replica_id for replica_id, _ in ripe[: max(0, surplus)]))


def next_cull_in(load: Load, scaling: Scaling) -> float | None:
    """Seconds until the next idle replica is ripe, None if there is none to cull."""
    if load.observed <= scaling.min_replicas or not load.idle:
        return None
    return max(0.0, scaling.idle_timeout_s - max(idle for _, idle in load.idle))


def backoff_s(failures: int, *, base_s: float = 1.0, cap_s: float = 60.0) -> float:
    """How long to wait before the next start after `failures` starts failed in a row."""
    return 0.0 if failures <= 0 else min(cap_s, base_s * 2.0 ** min(failures - 1, 32))


def has_had_its_turn(replica: Replica, now: float) -> bool:
    """Whether a busy replica may be asked to leave its card to another deployment.

    A turn is long against what a wake costs, so that two deployments with endless queues share a
    card without spending it on waking.
    """
    if replica.state is not ReplicaState.READY or replica.ready_at is None:
        return False
    wake_s = replica.ready_at - replica.created_at
    return now - replica.ready_at >= max(_SHORTEST_TURN_S, _TURN_PER_WAKE * wake_s)
