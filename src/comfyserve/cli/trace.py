"""The traffic that `simulate` replays: a CSV file, or what a server has on record."""

import csv
import io
from collections.abc import Iterator
from datetime import datetime

from comfyserve.cli.client import Client
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.simulation import Arrival

_AT = ("at", "arrived_at", "created_at", "time")
_SECONDS = ("seconds", "busy_s", "duration_s")
_LONGEST = 1_000_000
_PAGE = 500


def read_trace(text: str, name: str) -> list[Arrival]:
    """Read a CSV table with a header: when each job came, and how many seconds it ran.

    Raises InvalidInput naming the line.
    """
    rows = csv.reader(io.StringIO(text))
    fields = [field.strip().lower() for field in next(rows, [])]
    at, seconds = _column(fields, _AT, name), _column(fields, _SECONDS, name)
    found: list[Arrival] = []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        try:
            found.append(Arrival(_moment(row[at]), _duration(row[seconds])))
        except (ValueError, IndexError):
            raise InvalidInput(
                f"{name}, line {rows.line_num}: '{','.join(row)[:80]}' needs a time (RFC 3339, or "
                "seconds since the epoch) and a number of seconds"
            ) from None
        if len(found) > _LONGEST:
            raise InvalidInput(f"{name} has more than {_LONGEST} jobs; replay a part of it")
    if not found:
        raise InvalidInput(f"{name} has no jobs")
    return found


def recorded_trace(client: Client, deployment: str | None, since: float | None) -> list[Arrival]:
    """The jobs on a server that succeeded. Raises InvalidInput where there are none."""
    found = []
    for arrival in _recorded(client, deployment):
        if since is not None and arrival.at < since:
            break
        found.append(arrival)
        if len(found) > _LONGEST:
            raise InvalidInput(f"there are more than {_LONGEST} jobs; narrow it with --since")
    if not found:
        raise InvalidInput("no job has succeeded in that time; give a TRACE, or an earlier --since")
    return found


def measured_wake_s(client: Client, deployment: str | None) -> float | None:
    """Mean time from launch to ready of the replicas on record; None without any."""
    replicas = client.replicas(deployment=deployment, ended=True).value.replicas
    wakes = [
        (item.ready_at - item.created_at).total_seconds()
        for item in replicas
        if item.ready_at is not None
    ]
    return sum(wakes) / len(wakes) if wakes else None


def _recorded(client: Client, deployment: str | None) -> Iterator[Arrival]:
    cursor: str | None = None
    while True:
        query = {"deployment": deployment, "state": "succeeded", "limit": _PAGE, "cursor": cursor}
        page = client.jobs(query).value
        for job in page.jobs:
            if job.started_at is not None and job.finished_at is not None:
                seconds = (job.finished_at - job.started_at).total_seconds()
                yield Arrival(job.created_at.timestamp(), max(0.0, seconds))
        cursor = page.next_cursor
        if cursor is None:
            return


def _column(fields: list[str], names: tuple[str, ...], file: str) -> int:
    for name in names:
        if name in fields:
            return fields.index(name)
    raise InvalidInput(
        f"{file} needs a header with the columns '{_AT[0]}' and '{_SECONDS[0]}'; "
        f"it has: {', '.join(fields) or 'nothing'}"
    )


def _moment(text: str) -> float:
    try:
        return _finite(float(text))
    except ValueError:
        return datetime.fromisoformat(text.strip()).timestamp()


def _duration(text: str) -> float:
    seconds = _finite(float(text))
    if seconds < 0:
        raise ValueError(text)
    return seconds


def _finite(number: float) -> float:
    if not -1e15 < number < 1e15:
        raise ValueError(number)
    return number
