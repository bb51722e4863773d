"""A replica's life as a table: no clock, no socket, no process."""

from dataclasses import dataclass, replace
from enum import StrEnum

from comfyserve.domain.errors import IllegalTransition


class ReplicaState(StrEnum):
    """Structural states; why one was entered is its `cause`."""

    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class ReplicaEvent(StrEnum):
    """Facts that a supervisor feeds in."""

    LAUNCHED = "launched"
    PROBE_OK = "probe_ok"
    START_TIMEOUT = "start_timeout"
    DRAIN = "drain"
    STOP = "stop"
    UNRESPONSIVE = "unresponsive"
    EXITED = "exited"
    GONE = "gone"


class Cause(StrEnum):
    """Why a replica entered its state; also a metric label, so the set is closed."""

    NONE = ""
    WORK = "work"
    WARM_UP = "warm_up"
    MIN_REPLICAS = "min_replicas"
    RECORDING = "recording"
    ADOPTED = "adopted"
    IDLE = "idle"
    UPDATED = "updated"
    YIELDED = "yielded"
    STOPPED_BY_USER = "stopped_by_user"
    SHUTDOWN = "shutdown"
    START_TIMEOUT = "start_timeout"
    START_ERROR = "start_error"
    NO_CAPACITY = "no_capacity"
    CRASHED = "crashed"
    OOM = "oom"
    UNRESPONSIVE = "unresponsive"
    JOB_TIMEOUT = "job_timeout"
    LEASE_EXPIRED = "lease_expired"
    LOST = "lost"


class Effect(StrEnum):
    """Instructions that a supervisor executes after a step."""

    PROBE = "probe"
    OFFER = "offer"
    WITHDRAW = "withdraw"
    TERMINATE = "terminate"


TERMINAL = frozenset({ReplicaState.STOPPED, ReplicaState.FAILED})
LIVE = frozenset(ReplicaState) - TERMINAL

_S, _E = ReplicaState, ReplicaEvent
_NEXT: dict[tuple[ReplicaState, ReplicaEvent], ReplicaState] = {
    (_S.PENDING, _E.LAUNCHED): _S.STARTING,
    (_S.PENDING, _E.DRAIN): _S.STOPPING,
    (_S.PENDING, _E.STOP): _S.STOPPING,
    (_S.PENDING, _E.START_TIMEOUT): _S.STOPPING,
    (_S.PENDING, _E.EXITED): _S.FAILED,
    (_S.STARTING, _E.LAUNCHED): _S.STARTING,
    (_S.STARTING, _E.PROBE_OK): _S.READY,
    (_S.STARTING, _E.START_TIMEOUT): _S.STOPPING,
    (_S.STARTING, _E.DRAIN): _S.STOPPING,
    (_S.STARTING, _E.STOP): _S.STOPPING,
    (_S.STARTING, _E.EXITED): _S.FAILED,
    (_S.READY, _E.LAUNCHED): _S.READY,
    (_S.READY, _E.DRAIN): _S.DRAINING,
    (_S.READY, _E.STOP): _S.STOPPING,
    (_S.READY, _E.UNRESPONSIVE): _S.STOPPING,
    (_S.READY, _E.EXITED): _S.FAILED,
    (_S.DRAINING, _E.LAUNCHED): _S.DRAINING,
    (_S.DRAINING, _E.DRAIN): _S.DRAINING,
    (_S.DRAINING, _E.STOP): _S.STOPPING,
    (_S.DRAINING, _E.UNRESPONSIVE): _S.STOPPING,
    (_S.DRAINING, _E.EXITED): _S.STOPPED,
    # What was on its way when the stop came, comes too late.
    (_S.STOPPING, _E.LAUNCHED): _S.STOPPING,
    (_S.STOPPING, _E.PROBE_OK): _S.STOPPING,
    (_S.STOPPING, _E.START_TIMEOUT): _S.STOPPING,
    (_S.STOPPING, _E.DRAIN): _S.STOPPING,
    (_S.STOPPING, _E.STOP): _S.STOPPING,
    (_S.STOPPING, _E.UNRESPONSIVE): _S.STOPPING,
    (_S.STOPPING, _E.EXITED): _S.STOPPING,
    (_S.STOPPING, _E.GONE): _S.STOPPED,
}
_ON_ENTER: dict[ReplicaState, tuple[Effect, ...]] = {
    _S.STARTING: (Effect.PROBE,),
    _S.READY: (Effect.OFFER,),
    _S.DRAINING: (Effect.WITHDRAW,),
    _S.STOPPING: (Effect.WITHDRAW, Effect.TERMINATE),
    _S.STOPPED: (Effect.WITHDRAW,),
    _S.FAILED: (Effect.WITHDRAW,),
}
TRANSITIONS = frozenset(_NEXT)


@dataclass(frozen=True, slots=True)
class Replica:
    """One running copy of a revision, as recorded. Times are seconds since the epoch, UTC."""

    id: str
    deployment_id: str
    revision_id: str
    state: ReplicaState
    cause: Cause
    since: float
    created_at: float
    ready_at: float | None = None
    ended_at: float | None = None
    host: str = ""
    gpu: str = ""
    pid: int | None = None
    endpoint: str = ""
    exit_code: int | None = None
    message: str = ""

    @property
    def is_live(self) -> bool:
        """Whether a process may exist for it."""
        return self.state in LIVE


def step(
    replica: Replica, event: ReplicaEvent, *, now: float, cause: Cause = Cause.NONE
) -> tuple[Replica, tuple[Effect, ...]]:
    """Apply one event; return the new record and what the supervisor must do.

    Entering a state twice (STOPPING on STOPPING) changes nothing and asks for nothing.
    Raises IllegalTransition for a pair that the table does not have.
    """
    try:
        state = _NEXT[replica.state, event]
    except KeyError:
        raise IllegalTransition(replica.id, replica.state, event) from None
    if state is replica.state:
        return replica, ()
    changed = replace(
        replica,
        state=state,
        since=now,
        cause=cause or replica.cause,
        ready_at=now if state is ReplicaState.READY else replica.ready_at,
        ended_at=now if state in TERMINAL else None,
    )
    return changed, _ON_ENTER.get(state, ())
