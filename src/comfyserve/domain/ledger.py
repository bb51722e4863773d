"""The ledger, added up: by deployment, replica, day, GPU or token, within a stretch of time."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from comfyserve.domain.usage import Segment, Totals, total

_DAY_S = 86_400.0


class Grouping(StrEnum):
    """What usage is added up by."""

    DEPLOYMENT = "deployment"
    REPLICA = "replica"
    DAY = "day"
    GPU = "gpu"
    TOKEN = "token"  # noqa: S105 - a word, not a secret


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the ledger. The key is an id, a day (`2026-11-29`, UTC) or a GPU type.

    By token it is empty for the seconds in which no job ran: they are nobody's.
    """

    key: str
    totals: Totals


@dataclass(frozen=True, slots=True)
class Span:
    """From `since` until `until`, in seconds since the epoch; None is open."""

    since: float | None = None
    until: float | None = None

    def clip(self, segment: Segment, now: float) -> Segment:
        """The part of a segment that lies in it; one that is open ends now."""
        end = now if segment.ended_at is None else segment.ended_at
        start = segment.started_at
        if self.until is not None:
            end = min(end, self.until)
        if self.since is not None:
            start = max(start, self.since)
        return replace(segment, started_at=start, ended_at=max(start, end))


def add_up(
    segments: Iterable[Segment],
    by: Grouping,
    *,
    principal_of: Mapping[str, str],
    now: float,
) -> list[Row]:
    """Group segments and add each group up; days in order, the rest as they first appear.

    `principal_of` says for a job's id who sent it.
    """
    parts: Iterable[Segment] = segments
    if by is Grouping.DAY:
        parts = (part for segment in segments for part in _days(segment, now))
    groups: dict[str, list[Segment]] = {}
    key_of = _key(by, principal_of)
    for segment in parts:
        groups.setdefault(key_of(segment), []).append(segment)
    rows = [Row(key, total(group, now)) for key, group in groups.items()]
    return sorted(rows, key=lambda row: row.key) if by is Grouping.DAY else rows


def month_of(now: float) -> Span:
    """The calendar month (UTC) that `now` lies in."""
    first = datetime.fromtimestamp(now, UTC).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    following = (first + timedelta(days=32)).replace(day=1)
    return Span(first.timestamp(), following.timestamp())


def _key(by: Grouping, principal_of: Mapping[str, str]) -> Callable[[Segment], str]:
    match by:
        case Grouping.DEPLOYMENT:
            return lambda segment: segment.deployment_id
        case Grouping.REPLICA:
            return lambda segment: segment.replica_id
        case Grouping.DAY:
            return lambda segment: _day(segment.started_at)
        case Grouping.GPU:
            return lambda segment: segment.gpu or "cpu"
        case Grouping.TOKEN:
            return lambda segment: principal_of.get(segment.job_id or "", "")


def _days(segment: Segment, now: float) -> Iterator[Segment]:
    """A segment, cut at each midnight (UTC)."""
    end = now if segment.ended_at is None else segment.ended_at
    start = segment.started_at
    while (midnight := (start // _DAY_S + 1) * _DAY_S) < end:
        yield replace(segment, started_at=start, ended_at=midnight)
        start = midnight
    yield replace(segment, started_at=start, ended_at=max(start, end))


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
