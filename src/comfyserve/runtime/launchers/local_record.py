"""The records of all replicas of one home, and the processes that they stand for. Blocking."""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from comfyserve.clock import Clock
from comfyserve.runtime.launchers.base import GoneReason, LaunchState, LaunchStatus
from comfyserve.runtime.launchers.local_files import ReplicaDir, Report
from comfyserve.runtime.launchers.local_spawn import OWNER_MARK, REPLICA_MARK
from comfyserve.runtime.launchers.procs import (
    ProcessName,
    boot_id,
    end_marked,
    find_marked,
    has_ended,
    open_process,
    reap,
)

log = structlog.get_logger()

_KILL_TIMEOUT_S = 10.0
_FIRST_REPORT_LOOKS = 500
_LAST_STEP_S = 1.0
_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class Found:
    """A replica as found on the host: its status, and its shim with a pidfd while that lives."""

    status: LaunchStatus
    shim: ProcessName | None = None
    pidfd: int | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """The directory that holds one directory for each replica. Every call blocks: use a thread."""

    root: Path
    host: str
    clock: Clock

    @property
    def owner(self) -> str:
        """Tells the replicas of this home from those of others on the same host."""
        return hashlib.blake2b(os.fsencode(self.root.resolve()), digest_size=8).hexdigest()

    @property
    def notices(self) -> Path:
        """The pipe on which shims say that their status file has changed."""
        return self.root / "notices"

    def files(self, replica_id: str) -> ReplicaDir:
        """Return the files of a replica."""
        return ReplicaDir(self.root / replica_id)

    def marks(self, replica_id: str) -> Mapping[str, str]:
        """Return the variables that mark the processes of a replica."""
        return {OWNER_MARK: self.owner, REPLICA_MARK: replica_id}

    def open_notices(self) -> int:
        """Make what is missing; return the reading end of the pipe, non-blocking."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.notices.is_fifo():
            os.mkfifo(self.notices, 0o600)
        # Opened for writing too, so that it has no end when no shim writes.
        return os.open(self.notices, os.O_RDWR | os.O_NONBLOCK)

    def find(self) -> list[Found]:
        """Return every recorded replica, and end the processes of those without a record."""
        marked = {env[REPLICA_MARK] for _, env in self._marked()}
        ids = sorted(path.name for path in self.root.iterdir() if path.is_dir())
        for orphan in marked.difference(ids):
            log.warning(
                "Processes without a record were ended.", event_key="orphan_ended", replica=orphan
            )
            end_marked(self.marks(orphan), timeout_s=_KILL_TIMEOUT_S)
        return [self._find_one(replica_id, is_marked=replica_id in marked) for replica_id in ids]

    def conclude(self, replica_id: str, last: LaunchStatus, *, is_stopped: bool) -> LaunchStatus:
        """Return the final status of a replica whose shim has ended; end what it left, if killed.

        Raises TimeoutError if processes are left that cannot be ended.
        """
        files = self.files(replica_id)
        report = files.read_report(self.host)
        if report is not None and report.status.is_gone:
            return report.status
        end_marked(self.marks(replica_id), timeout_s=_KILL_TIMEOUT_S)
        is_rebooted = report is not None and _is_of_another_boot(report)
        status = replace(
            report.status if report else last,
            state=LaunchState.GONE,
            reason=_reason(is_rebooted=is_rebooted, is_stopped=is_stopped),
            message="the host was restarted" if is_rebooted else self._last_words(files),
            endpoint=None,
            ended_at=self.clock.now(),
        )
        with _logged("The end of a replica could not be recorded.", replica_id):
            files.write_status(status)
        return status

    def set_leases(self, replica_ids: Sequence[str], ttl_s: float | None) -> None:
        """Have these replicas end themselves `ttl_s` seconds from now (None: never)."""
        for replica_id in replica_ids:
            with _logged("A lease could not be renewed.", replica_id):
                self.files(replica_id).set_lease(ttl_s)

    def set_stop(self, replica_id: str, grace_s: float) -> None:
        """Say how long the server may take to end; the shim has a default if it cannot be said."""
        with _logged("The grace of a stop could not be set.", replica_id):
            self.files(replica_id).set_stop(grace_s)

    def end_unknown(self, replica_id: str) -> None:
        """End the processes of an id that has no record. Raises TimeoutError if they stay."""
        end_marked(self.marks(replica_id), timeout_s=_KILL_TIMEOUT_S)

    def _find_one(self, replica_id: str, *, is_marked: bool) -> Found:
        files = self.files(replica_id)
        report = self._first_report(files) if is_marked else files.read_report(self.host)
        if report is None:
            unknown = LaunchStatus(replica_id, "", LaunchState.STARTING, host=self.host)
            return Found(self.conclude(replica_id, unknown, is_stopped=False))
        if report.shim is not None:
            pidfd = open_process(report.shim)
            if pidfd is not None and not report.status.is_gone:
                return Found(report.status, report.shim, pidfd)
            if pidfd is not None:
                has_ended(pidfd, timeout_s=_LAST_STEP_S)
                os.close(pidfd)
            reap(report.shim)
        return Found(self.conclude(replica_id, report.status, is_stopped=False))

    def _first_report(self, files: ReplicaDir) -> Report | None:
        """Wait for the shim of a replica that was started a moment ago, by whoever was here."""
        for _ in range(_FIRST_REPORT_LOOKS):
            report = files.read_report(self.host)
            if report is not None and (report.status.is_gone or report.shim is not None):
                return report
            time.sleep(_PAUSE_S)
        return files.read_report(self.host)

    def _marked(self) -> Iterator[tuple[int, Mapping[str, str]]]:
        for pid, env in find_marked({OWNER_MARK: self.owner}):
            if REPLICA_MARK in env:
                yield pid, env

    def _last_words(self, files: ReplicaDir) -> str:
        try:
            lines = (files.path / "shim.log").read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return ": ".join(["its shim was killed", *lines[-1:]])


def _is_of_another_boot(report: Report) -> bool:
    return report.shim is not None and report.shim.boot_id != boot_id()


def _reason(*, is_rebooted: bool, is_stopped: bool) -> GoneReason:
    if is_rebooted:
        return GoneReason.HOST_LOST
    return GoneReason.STOPPED if is_stopped else GoneReason.EXITED


@contextmanager
def _logged(problem: str, replica_id: str) -> Iterator[None]:
    """Go on without a file that cannot be written, and say so."""
    try:
        yield
    except OSError as error:
        log.warning(problem, event_key="record_failed", replica=replica_id, error=str(error))
