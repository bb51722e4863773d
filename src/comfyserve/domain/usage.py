"""Metering: what a replica's seconds were spent on, and what a job's receipt says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class SegmentKind(StrEnum):
    """What a replica does; a replica is in exactly one segment from launch to end."""

    STARTING = "starting"
    BUSY = "busy"
    IDLE = "idle"
    DRAINING = "draining"


BILLED = frozenset({SegmentKind.BUSY, SegmentKind.IDLE, SegmentKind.DRAINING})


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of one replica's life. Times are seconds since the epoch; open while `ended_at` is None."""

    replica_id: str
    deployment_id: str
    kind: SegmentKind
    started_at: float
    ended_at: float | None = None
    job_id: str | None = None
    gpu: str = ""
    price_per_hour: float = 0.0

    def seconds(self, now: float) -> float:
        """Length in seconds, up to `now` while open."""
        return max(0.0, (now if self.ended_at is None else self.ended_at) - self.started_at)

    def cost(self, now: float) -> float:
        """Price of this segment; spin-up is metered and shown, never billed."""
        return self.seconds(now) / 3600.0 * self.price_per_hour if self.kind in BILLED else 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over segments: seconds by kind, and the price of the billed ones."""

    starting_s: float = 0.0
    busy_s: float = 0.0
    idle_s: float = 0.0
    draining_s: float = 0.0
    cost: float = 0.0

    @property
    def awake_s(self) -> float:
        """All seconds in which a replica existed."""
        return self.starting_s + self.busy_s + self.idle_s + self.draining_s

    @property
    def billed_s(self) -> float:
        """All seconds that have a price."""
        return self.busy_s + self.idle_s + self.draining_s


def total(segments: Iterable[Segment], now: float) -> Totals:
    """Add segments up."""
    sums = dict.fromkeys(SegmentKind, 0.0)
    cost = 0.0
    for segment in segments:
        sums[segment.kind] += segment.seconds(now)
        cost += segment.cost(now)
    return Totals(
        starting_s=sums[SegmentKind.STARTING],
        busy_s=sums[SegmentKind.BUSY],
        idle_s=sums[SegmentKind.IDLE],
        draining_s=sums[SegmentKind.DRAINING],
        cost=cost,
    )


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where one job's time went (milliseconds) and what it cost.

    `queued` is the wait for a slot without the part that a replica spent waking up, which is
    `wake`; `load` is the submission and the nodes that load models; `execute` is the rest of the
    slot. The four add up to `total`. `billed_ms` is the time that the slot was held, over all
    attempts; `cost` prices it.
    """

    queued_ms: int
    wake_ms: int
    load_ms: int
    execute_ms: int
    total_ms: int
    billed_ms: int
    attempts: int
    replica_id: str | None = None
    gpu: str = ""
    price_per_hour: float = 0.0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class JobTimes:
    """The moments that a receipt is made of, in seconds since the epoch."""

    created_at: float
    finished_at: float
    started_at: float | None = None
    wake_began_at: float | None = None
    wake_ended_at: float | None = None
    load_s: float = 0.0
    earlier_attempts_s: float = 0.0


def make_receipt(
    times: JobTimes, *, attempts: int, replica_id: str | None, gpu: str, price_per_hour: float
) -> Receipt:
    """Divide a job's life into its receipt. Parts are non-negative and sum to the total."""
    end = max(times.finished_at, times.created_at)
    start = end if times.started_at is None else min(max(times.started_at, times.created_at), end)
    wake = 0.0
    if times.wake_began_at is not None:
        wake_end = start if times.wake_ended_at is None else min(times.wake_ended_at, start)
        wake = max(0.0, wake_end - max(times.wake_began_at, times.created_at))
    total_ms = round((end - times.created_at) * 1000)
    slot_ms = min(total_ms, round((end - start) * 1000))
    wake_ms = min(round(wake * 1000), total_ms - slot_ms)
    load_ms = min(max(0, round(times.load_s * 1000)), slot_ms)
    billed_s = (end - start) + max(0.0, times.earlier_attempts_s)
    return Receipt(
        queued_ms=total_ms - slot_ms - wake_ms,
        wake_ms=wake_ms,
        load_ms=load_ms,
        execute_ms=slot_ms - load_ms,
        total_ms=total_ms,
        billed_ms=round(billed_s * 1000),
        attempts=attempts,
        replica_id=replica_id,
        gpu=gpu,
        price_per_hour=price_per_hour,
        cost=billed_s / 3600.0 * price_per_hour,
    )


def price_of(gpu: str, prices: Mapping[str, float]) -> float:
    """Price per hour of a GPU type from the operator's table; 0 where it says nothing."""
    return prices.get(gpu or "cpu", prices.get("default", 0.0))
