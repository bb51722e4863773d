"""The launcher protocol: the one seam to whatever runs replicas, and the values that cross it.

A launcher starts, stops and lists replicas. It never decides, proxies, restarts or judges
readiness: it reports facts, and the runtime acts on them.

What each call answers, by what became of the id (`GONE` includes crashed replicas):

| call | never started | pending | starting, running, stopping | gone | forgotten |
|---|---|---|---|---|---|
| `start`, same spec | PENDING at once | as it is | as it is | as it is: no second life | PENDING |
| `start`, other spec | | Conflict | Conflict | Conflict | |
| `stop` | GONE, stopped; no record | GONE, stopped | waits for GONE | as it is | GONE, stopped |
| `get` | None | its status | its status | its status | None |
| `list` | without it | with it | with it | with it | without it |
| `renew` | ignored | ignored | extends the lease | ignored | ignored |
| `logs`, `read_log` | empty | empty | what was written | what was written | empty |
| `forget` | nothing | Conflict | Conflict | removes it | nothing |

Further:
- A status is level-triggered: it may come late or twice, and states may be skipped, but those of
  one replica never go backwards (PENDING, STARTING, RUNNING, STOPPING, GONE), and GONE is final.
- RUNNING says that the server itself, nobody else, listens on `endpoint`; whether it is ready is
  for probes. An endpoint given while STARTING may still change.
- `stop` returns only when no process of the replica is left, and so its GPUs are free.
- A PENDING replica starts by itself when there is room; `INFEASIBLE` ones never will.
- `close` detaches: replicas live on under their leases, and the next launcher on the same back-end
  lists them. PENDING ones may be unknown to it.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Protocol


class LaunchState(StrEnum):
    """Where a replica stands with its back-end. LOST: the back-end cannot tell; not yet gone."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    GONE = "gone"
    LOST = "lost"


class PendingReason(StrEnum):
    """What a pending replica waits for."""

    QUEUED = "queued"
    NO_CAPACITY = "no_capacity"
    ADDING_HOST = "adding_host"
    PULLING = "pulling"
    INFEASIBLE = "infeasible"


class GoneReason(StrEnum):
    """Why a replica is gone. BOOT_TIMEOUT: the back-end itself gave up bringing it up."""

    STOPPED = "stopped"
    EXITED = "exited"
    OOM = "oom"
    BOOT_TIMEOUT = "boot_timeout"
    LEASE_EXPIRED = "lease_expired"
    PREEMPTED = "preempted"
    HOST_LOST = "host_lost"


class Confine(StrEnum):
    """Whether the server runs in a sandbox. AUTO: where the host can, and said where it cannot."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a replica listens (TCP)."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What to run, in no back-end's terms.

    `{replica_dir}` in `argv`, `env`, `cwd` and the directories stands for a directory of the
    replica's own, `{port}` in `argv` and `env` for the port that it is to listen on. The server
    gets `env`, `secrets` (as they are) and a minimal clean environment, nothing else; the
    directories of `path` come before those of its PATH. `writable` directories are made if
    missing. Confined, the server writes only there, and sees the `hidden` directories empty but
    for what `writable` and `readable` show of them. `cpu` (cores) and `memory_bytes` are requests
    that a back-end enforces where it can. The first lease lasts `lease_s` (None: for ever).

    `links` are pairs of a path and what it leads to, made before the start; `copies` are pairs of
    a directory and where its entries appear as the replica's own: what is there already stays.
    `port` is for a server that listens on that port of its host whatever it is told.
    """

    pool: str
    argv: tuple[str, ...]
    cwd: str = "{replica_dir}"
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    gpus: int = 0
    gpu_type: str | None = None
    cpu: float | None = None
    memory_bytes: int | None = None
    writable: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    copies: tuple[tuple[str, str], ...] = ()
    port: int | None = None
    confine: Confine = Confine.AUTO
    log_limit_bytes: int = 16 * 1024 * 1024
    lease_s: float | None = 60.0

    @property
    def spec_digest(self) -> str:
        """Names this spec: two that differ in anything differ here."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        # The digest is written down: no value of a secret may be guessed by it.
        kept = {"env": dict(self.env), "secrets": sorted(self.secrets)}
        text = json.dumps(values | kept, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class LaunchStatus:
    """What a launcher knows of one replica; its id is all that is needed to find it again.

    Times are seconds since the epoch. `gpus` are UUIDs. `pid` is the server's, on `host`.
    `confined_by` names the sandbox, if there is one.
    """

    id: str
    pool: str
    state: LaunchState
    reason: PendingReason | GoneReason | None = None
    message: str = ""
    endpoint: Endpoint | None = None
    host: str = ""
    gpus: tuple[str, ...] = ()
    spec_digest: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    pid: int | None = None
    exit_code: int | None = None
    term_signal: int | None = None
    confined_by: str | None = None

    @property
    def is_gone(self) -> bool:
        """Whether nothing of it is left running."""
        return self.state is LaunchState.GONE


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of a replica's log. `offset` counts from the first byte ever written.

    It lies beyond what was asked for where the log had already given up the older part.
    """

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """The offset to read on from."""
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class Capacity:
    """GPUs of one type: how many there are and how many no replica holds. Advisory."""

    gpu_type: str
    total: int
    free: int
    memory_bytes: int
    can_grow: bool = False


class Launcher(Protocol):
    """See the module's table for what each call answers when."""

    async def open(self) -> None:
        """Connect, adopt the replicas that live, and end processes that have no record."""
        ...

    async def start(self, replica_id: str, spec: LaunchSpec) -> LaunchStatus:
        """Begin to start a replica and return at once. Raises Conflict for a used id."""
        ...

    async def stop(self, replica_id: str, *, grace_s: float) -> LaunchStatus:
        """End a replica: SIGTERM, SIGKILL after `grace_s`; return when all of it is gone.

        Raises NotReady if it cannot be ended (a process stuck in its driver); asking again is fine.
        """
        ...

    async def get(self, replica_id: str) -> LaunchStatus | None:
        """Return what is known of a replica."""
        ...

    async def list(self) -> Sequence[LaunchStatus]:
        """Return every replica of this owner, also gone ones that nobody has forgotten."""
        ...

    def watch(self) -> AsyncIterator[LaunchStatus]:
        """Yield the status of every replica, then each one that changes, until `close`.

        A slow reader misses intermediate states, never the latest.
        """
        ...

    async def renew(self, replica_ids: Iterable[str], *, ttl_s: float | None) -> None:
        """Have these replicas live for `ttl_s` seconds from now (None: for ever)."""
        ...

    async def logs(self, replica_id: str, *, tail_bytes: int) -> bytes:
        """Return the end of what the server wrote, also after its end."""
        ...

    async def read_log(self, replica_id: str, *, offset: int, limit_bytes: int) -> LogChunk:
        """Return what the server wrote from `offset` on; to follow, ask again from its `end`."""
        ...

    async def capacity(self) -> Sequence[Capacity]:
        """Return the GPUs of this back-end by type; empty where there is only the CPU."""
        ...

    async def forget(self, replica_id: str) -> None:
        """Remove what is kept of a gone replica. Raises Conflict while it is not gone."""
        ...

    async def close(self) -> None:
        """Detach; never stops a replica. Twice is fine."""
        ...
