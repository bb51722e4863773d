"""Replicas as processes of this host: a shim beside each server, a directory for each replica.

The directories are the record, so that nothing is lost with this process: the next launcher reads
them, finds the shims that live by pid and start time, and ends processes that have no record.
"""

import asyncio
import os
import re
import shutil
import signal
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from comfyserve.clock import Clock, SystemClock
from comfyserve.domain.errors import Conflict, InvalidInput, NotReady
from comfyserve.runtime.gpus import Gpu
from comfyserve.runtime.launchers.base import (
    Capacity,
    GoneReason,
    LaunchSpec,
    LaunchState,
    LaunchStatus,
    LogChunk,
    PendingReason,
)
from comfyserve.runtime.launchers.feed import StatusFeed, StatusWatch
from comfyserve.runtime.launchers.local_gpus import GpuLedger, NoRoom
from comfyserve.runtime.launchers.local_record import Found, Records
from comfyserve.runtime.launchers.local_spawn import ShimOrder, base_environment, spawn_shim
from comfyserve.runtime.launchers.procs import ProcessName, reap
from comfyserve.runtime.tasks import TaskScope

log = structlog.get_logger()

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SLACK_S = 10.0
_NOTICES_BYTES = 1 << 16
_ORDER = tuple(LaunchState)


@dataclass(slots=True)
class _Replica:
    """One replica as held here. `spec` is there from `start` on, not after adoption."""

    status: LaunchStatus
    spec: LaunchSpec | None = None
    shim: ProcessName | None = None
    pidfd: int | None = None
    is_launched: bool = False
    is_stopping: bool = False
    handling: asyncio.Lock = field(default_factory=asyncio.Lock)
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class LocalLauncher:
    """The launcher of this host; `root` is a directory that it has to itself.

    `environ` is this process's environment: the harmless part of it reaches servers, and
    bubblewrap is looked for on its PATH. One launcher at a time may use a `root`.
    """

    def __init__(
        self,
        root: Path,
        *,
        environ: Mapping[str, str],
        gpus: Sequence[Gpu] = (),
        clock: Clock | None = None,
        host: str = "",
    ) -> None:
        self._host = host or socket.gethostname()
        self._clock = clock or SystemClock()
        self._records = Records(root.absolute(), self._host, self._clock)
        self._environ = environ
        self._ledger = GpuLedger(gpus)
        self._replicas: dict[str, _Replica] = {}
        self._feed = StatusFeed()
        self._changed: set[str] = set()
        self._news = asyncio.Event()
        self._bwrap: str | None = None
        self._notices: int | None = None
        self._scope = TaskScope("launcher")

    async def open(self) -> None:
        """Adopt the replicas that live and end processes that have no record."""
        self._notices = await asyncio.to_thread(self._records.open_notices)
        found = await asyncio.to_thread(self._records.find)
        self._bwrap = await asyncio.to_thread(
            shutil.which, "bwrap", path=self._environ.get("PATH", "")
        )
        asyncio.get_running_loop().add_reader(self._notices, self._on_notice)
        for one in found:
            self._adopt(one)
        self._scope.spawn(self._follow(), name="follow")

    async def start(self, replica_id: str, spec: LaunchSpec) -> LaunchStatus:
        """Begin to start a replica and return at once. Raises Conflict for a used id."""
        if (known := self._replicas.get(replica_id)) is not None:
            if known.status.spec_digest != spec.spec_digest:
                raise Conflict(f"replica {replica_id} was started with another spec")
            return known.status
        if not _ID.fullmatch(replica_id):
            raise InvalidInput(f"'{replica_id[:80]}' cannot be the id of a replica")
        status = LaunchStatus(
            id=replica_id,
            pool=spec.pool,
            state=LaunchState.PENDING,
            reason=PendingReason.QUEUED,
            host=self._host,
            spec_digest=spec.spec_digest,
        )
        replica = self._replicas[replica_id] = _Replica(status, spec)
        self._place(replica, spec)
        return replica.status

    async def stop(self, replica_id: str, *, grace_s: float) -> LaunchStatus:
        """End a replica: SIGTERM, SIGKILL after `grace_s`; return when all of it is gone."""
        replica = self._replicas.get(replica_id)
        if replica is None:
            return await self._stop_unknown(replica_id)
        replica.is_stopping = True
        if not replica.is_launched and not replica.status.is_gone:
            self._bury(replica, _ended(replica.status, GoneReason.STOPPED, self._clock.now()))
        async with replica.handling:
            if replica.pidfd is not None:
                self._note(replica, replace(replica.status, state=LaunchState.STOPPING))
                await asyncio.to_thread(self._records.set_stop, replica_id, grace_s)
                _signal(replica, signal.SIGTERM)
        if not await _happens(replica.gone, grace_s + _SLACK_S):
            _signal(replica, signal.SIGKILL)  # a shim that hangs; its server dies with it
            if not await _happens(replica.gone, _SLACK_S):
                raise NotReady(f"replica {replica_id} does not end", code="stop_timeout")
        return replica.status

    async def get(self, replica_id: str) -> LaunchStatus | None:
        """Return what is known of a replica."""
        replica = self._replicas.get(replica_id)
        return replica.status if replica else None

    async def list(self) -> Sequence[LaunchStatus]:
        """Return every replica of this home, also gone ones that nobody has forgotten."""
        return [replica.status for replica in self._replicas.values()]

    def watch(self) -> StatusWatch:
        """Yield the status of every replica, then each one that changes, until `close`."""
        return self._feed.watch(replica.status for replica in self._replicas.values())

    async def renew(self, replica_ids: Iterable[str], *, ttl_s: float | None) -> None:
        """Have these replicas live for `ttl_s` seconds from now (None: for ever)."""
        known = [self._replicas[each] for each in replica_ids if each in self._replicas]
        live = [replica for replica in known if replica.pidfd is not None]
        ids = [replica.status.id for replica in live]
        await asyncio.to_thread(self._records.set_leases, ids, ttl_s)
        for replica in live:
            _signal(replica, signal.SIGUSR1)

    async def logs(self, replica_id: str, *, tail_bytes: int) -> bytes:
        """Return the end of what the server wrote, also after its end."""
        if replica_id not in self._replicas:
            return b""
        return await asyncio.to_thread(self._records.files(replica_id).read_tail, tail_bytes)

    async def read_log(self, replica_id: str, *, offset: int, limit_bytes: int) -> LogChunk:
        """Return what the server wrote from `offset` on; to follow, ask again from its `end`."""
        if replica_id not in self._replicas:
            return LogChunk(offset, b"")
        files = self._records.files(replica_id)
        return await asyncio.to_thread(files.read_log, offset, limit_bytes)

    async def capacity(self) -> Sequence[Capacity]:
        """Return the GPUs of this host by type."""
        return self._ledger.capacity()

    async def forget(self, replica_id: str) -> None:
        """Remove the directory of a gone replica. Raises Conflict while it is not gone."""
        replica = self._replicas.get(replica_id)
        if replica is None:
            return
        if not replica.status.is_gone:
            raise Conflict(f"replica {replica_id} is {replica.status.state}: stop it first")
        await asyncio.to_thread(self._records.files(replica_id).remove)
        self._replicas.pop(replica_id, None)

    async def close(self) -> None:
        """Detach; replicas live on under their leases. Twice is fine."""
        loop = asyncio.get_running_loop()
        if self._notices is not None:
            loop.remove_reader(self._notices)
            os.close(self._notices)
            self._notices = None
        for replica in self._replicas.values():
            self._let_go(replica)
        self._replicas.clear()
        await self._scope.aclose()
        self._feed.end()

    async def _stop_unknown(self, replica_id: str) -> LaunchStatus:
        try:
            await asyncio.to_thread(self._records.end_unknown, replica_id)
        except TimeoutError as error:
            raise NotReady(f"replica {replica_id}: {error}", code="stop_timeout") from error
        status = LaunchStatus(replica_id, "", LaunchState.PENDING, host=self._host)
        return _ended(status, GoneReason.STOPPED, self._clock.now())

    # Starting

    def _place(self, replica: _Replica, spec: LaunchSpec) -> None:
        match self._ledger.take(replica.status.id, spec):
            case NoRoom(reason, message):
                self._note(replica, replace(replica.status, reason=reason, message=message))
            case gpus:
                replica.is_launched = True
                queued = replace(replica.status, reason=PendingReason.QUEUED, message="", gpus=gpus)
                self._note(replica, queued)
                self._scope.spawn(self._launch(replica, spec), name=f"launch:{replica.status.id}")

    async def _launch(self, replica: _Replica, spec: LaunchSpec) -> None:
        async with replica.handling:
            if replica.is_stopping:
                self._bury(replica, _ended(replica.status, GoneReason.STOPPED, self._clock.now()))
                return
            starting = replace(
                replica.status,
                state=LaunchState.STARTING,
                reason=None,
                started_at=self._clock.now(),
            )
            try:
                shim, pidfd = await asyncio.to_thread(self._spawn, starting, spec)
            except (OSError, ValueError) as error:
                failed = replace(starting, message=f"cannot start: {error}")
                self._bury(replica, _ended(failed, GoneReason.EXITED, self._clock.now()))
                return
            self._attach(replica, shim, pidfd)
            self._note(replica, starting)

    def _spawn(self, starting: LaunchStatus, spec: LaunchSpec) -> tuple[ProcessName, int]:
        files = self._records.files(starting.id)
        files.create()
        files.set_lease(spec.lease_s)
        files.write_status(starting)
        order = ShimOrder(
            replica_id=starting.id,
            marks=self._records.marks(starting.id),
            spec=spec,
            directory=files.path,
            notices=self._records.notices,
            gpus=starting.gpus,
            started_at=starting.started_at,
            base_env=base_environment(self._environ),
            bwrap=self._bwrap,
        )
        return spawn_shim(order)

    def _place_waiting(self) -> None:
        for replica in self._replicas.values():
            if replica.spec is not None and replica.status.reason is PendingReason.NO_CAPACITY:
                self._place(replica, replica.spec)

    def _adopt(self, found: Found) -> None:
        status = found.status
        replica = self._replicas[status.id] = _Replica(status, is_launched=True)
        if found.shim is None or found.pidfd is None:
            replica.gone.set()
            return
        self._ledger.hold(status.id, status.gpus)
        self._attach(replica, found.shim, found.pidfd)

    # Following

    def _attach(self, replica: _Replica, shim: ProcessName, pidfd: int) -> None:
        replica.shim, replica.pidfd = shim, pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._on_end, replica)

    def _let_go(self, replica: _Replica) -> None:
        if replica.pidfd is not None:
            asyncio.get_running_loop().remove_reader(replica.pidfd)
            os.close(replica.pidfd)
            replica.pidfd = None

    def _on_notice(self) -> None:
        if self._notices is None:
            return
        try:
            data = os.read(self._notices, _NOTICES_BYTES)
        except BlockingIOError:
            return
        # A full pipe may have turned notices away, so then everything counts as changed.
        lines = data.decode(errors="replace").split()
        self._changed.update(self._replicas if len(data) == _NOTICES_BYTES else lines)
        self._news.set()

    async def _follow(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._changed:
                await self._look_at(self._changed.pop())

    async def _look_at(self, replica_id: str) -> None:
        replica = self._replicas.get(replica_id)
        if replica is None or replica.status.is_gone:
            return
        files = self._records.files(replica_id)
        report = await asyncio.to_thread(files.read_report, self._host)
        # The end is told by the shim's own: only then is everything released.
        if report is not None and not report.status.is_gone:
            self._note(replica, report.status)

    def _on_end(self, replica: _Replica) -> None:
        self._let_go(replica)
        self._scope.spawn(self._conclude(replica), name=f"conclude:{replica.status.id}")

    async def _conclude(self, replica: _Replica) -> None:
        if replica.shim is not None:
            await asyncio.to_thread(reap, replica.shim)
        while not replica.status.is_gone:
            last, is_stopped = replica.status, replica.is_stopping
            try:
                status = await asyncio.to_thread(
                    self._records.conclude, last.id, last, is_stopped=is_stopped
                )
            except TimeoutError as error:
                log.warning(
                    "Processes of a replica do not end; trying again.",
                    event_key="replica_stuck",
                    replica=last.id,
                    error=str(error),
                )
            else:
                self._bury(replica, status)

    def _note(self, replica: _Replica, status: LaunchStatus) -> None:
        """Take in a status; what would go backwards comes from a file read too early."""
        before = replica.status
        if (
            before.is_gone
            or _ORDER.index(status.state) < _ORDER.index(before.state)
            or status == before
        ):
            return
        replica.status = status
        self._feed.publish(status)

    def _bury(self, replica: _Replica, status: LaunchStatus) -> None:
        replica.spec = None
        self._note(replica, status)
        self._ledger.release(status.id)
        replica.gone.set()
        self._place_waiting()


def _ended(status: LaunchStatus, reason: GoneReason, now: float) -> LaunchStatus:
    return replace(
        status, state=LaunchState.GONE, reason=reason, endpoint=None, gpus=(), ended_at=now
    )


def _signal(replica: _Replica, number: signal.Signals) -> None:
    # On the event loop's thread only: elsewhere the descriptor could be another's by now.
    if replica.pidfd is None:
        return
    try:
        signal.pidfd_send_signal(replica.pidfd, number)
    except ProcessLookupError:
        return  # it has just ended


async def _happens(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
