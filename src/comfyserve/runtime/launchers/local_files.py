"""The directory of one replica on this host: what its shim writes there and what it reads.

`status.json` is the shim's report, `log/` holds segments named by their first offset, `shim.log`
the shim's own troubles. Two empty files carry deadlines as their modification times, in seconds of
CLOCK_MONOTONIC: `lease`, when the replica ends itself, and `stop`, when what is left of it is
killed. Touching a file needs no room on the disk, so a full one neither ends replicas nor saves
them. A directory is the record of a replica: it stays until the replica is forgotten.
"""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfyserve.runtime.launchers.base import (
    Endpoint,
    GoneReason,
    LaunchState,
    LaunchStatus,
    LogChunk,
    PendingReason,
)
from comfyserve.runtime.launchers.procs import ProcessName

# The latest time that every file system can hold; 68 years after boot.
_NEVER_S = 2.0**31 - 1


@dataclass(frozen=True, slots=True)
class Report:
    """A status file as read: the status, and which process is its shim (None: not known yet)."""

    status: LaunchStatus
    shim: ProcessName | None


@dataclass(frozen=True, slots=True)
class ReplicaDir:
    """The files of one replica. Every call does file work: use it in a thread."""

    path: Path

    def create(self) -> None:
        """Make the directory, private to this user, with a lease that never lapses."""
        self.path.mkdir(mode=0o700)
        for name, deadline in (("lease", _NEVER_S), ("stop", 0.0)):
            (self.path / name).touch(mode=0o600)
            self._set_deadline(name, deadline)

    def remove(self) -> None:
        """Remove the directory with all that is in it. Twice is fine."""
        shutil.rmtree(self.path, ignore_errors=True)

    def write_status(self, status: LaunchStatus) -> None:
        """Record a status when no shim lives that could: before it starts, after it was killed."""
        fields = {
            "id": status.id,
            "pool": status.pool,
            "spec_digest": status.spec_digest,
            "state": status.state,
            "reason": status.reason,
            "message": status.message,
            "host": status.endpoint.host if status.endpoint else "",
            "port": status.endpoint.port if status.endpoint else None,
            "gpus": status.gpus,
            "confined_by": status.confined_by,
            "started_at": status.started_at,
            "ended_at": status.ended_at,
            "pid": status.pid,
            "exit_code": status.exit_code,
            "term_signal": status.term_signal,
        }
        new = self.path / "status.json.new"
        new.write_text(json.dumps(fields, indent=1), encoding="utf-8")
        new.replace(self.path / "status.json")

    def read_report(self, host: str) -> Report | None:
        """Return the status file's content, None if there is none that can be read."""
        try:
            fields = json.loads((self.path / "status.json").read_text(encoding="utf-8"))
            return _parse(fields, host)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def set_lease(self, ttl_s: float | None) -> None:
        """Have the replica end itself `ttl_s` seconds from now (None: never)."""
        self._set_deadline("lease", _NEVER_S if ttl_s is None else _now() + ttl_s)

    def set_stop(self, grace_s: float) -> None:
        """Say by when the server has to have ended once its shim is told to stop."""
        self._set_deadline("stop", _now() + grace_s)

    def read_log(self, offset: int, limit_bytes: int) -> LogChunk:
        """Return up to `limit_bytes` of the log from `offset`, or from where it still begins."""
        parts: list[bytes] = []
        position = start = None
        for first, path in self._segments():
            size = _size(path)
            if size == 0 or first + size <= offset:
                continue
            if position is None or start is None:
                start = position = max(offset, first)
            elif first != position:
                break  # a part is missing; what follows it is another chunk
            data = _read(path, position - first, limit_bytes - (position - start))
            parts.append(data)
            position += len(data)
            if position - start >= limit_bytes:
                break
        return LogChunk(offset if start is None else start, b"".join(parts))

    def read_tail(self, size: int) -> bytes:
        """Return the last `size` bytes of the log, or all there is."""
        parts: list[bytes] = []
        for _, path in reversed(self._segments()):
            length = _size(path)
            parts.append(_read(path, max(0, length - size), size))
            size -= len(parts[-1])
            if size <= 0:
                break
        return b"".join(reversed(parts))

    def _segments(self) -> list[tuple[int, Path]]:
        try:
            return sorted((int(path.name), path) for path in (self.path / "log").iterdir())
        except OSError:
            return []

    def _set_deadline(self, name: str, deadline: float) -> None:
        nanoseconds = int(min(deadline, _NEVER_S) * 1e9)
        os.utime(self.path / name, ns=(nanoseconds, nanoseconds))


def _now() -> float:
    # Compared with the shim's, so it must be this one clock.
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def _parse(fields: Any, host: str) -> Report:  # noqa: ANN401 - JSON
    state = LaunchState(fields["state"])
    port = fields["port"]
    gone = state is LaunchState.GONE
    status = LaunchStatus(
        id=fields["id"],
        pool=fields["pool"],
        state=state,
        reason=_reason(state, fields["reason"]),
        message=fields["message"],
        endpoint=None if port is None or gone else Endpoint(fields["host"], port),
        host=host,
        gpus=tuple(fields["gpus"]),
        spec_digest=fields["spec_digest"],
        started_at=fields["started_at"],
        ended_at=fields["ended_at"],
        pid=fields["pid"],
        exit_code=fields["exit_code"],
        term_signal=fields["term_signal"],
        confined_by=fields["confined_by"],
    )
    if fields.get("shim_pid") is None:
        return Report(status, None)
    return Report(status, ProcessName(fields["shim_pid"], fields["shim_start"], fields["boot_id"]))


def _reason(state: LaunchState, text: str | None) -> PendingReason | GoneReason | None:
    if text is None:
        return None
    return GoneReason(text) if state is LaunchState.GONE else PendingReason(text)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # given up while we looked


def _read(path: Path, start: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)
    except OSError:
        return b""  # given up while we looked
