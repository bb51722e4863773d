"""A job's life as a table, and the values that travel with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from comfyserve.domain.errors import IllegalTransition


class JobState(StrEnum):
    """The states of Comfy API v2."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELING = "canceling"
    CANCELED = "canceled"
    EXPIRED = "expired"


class JobEventKind(StrEnum):
    """Facts that move a job."""

    CLAIMED = "claimed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCEL = "cancel"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    RELEASED = "released"
    EXPIRED = "expired"
    REUSED = "reused"


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED})
ACTIVE = frozenset({JobState.RUNNING, JobState.CANCELING})
OPEN = ACTIVE | {JobState.QUEUED}

_S, _E = JobState, JobEventKind
_NEXT: dict[tuple[JobState, JobEventKind], JobState] = {
    (_S.QUEUED, _E.CLAIMED): _S.RUNNING,
    (_S.QUEUED, _E.CANCEL): _S.CANCELED,
    (_S.QUEUED, _E.FAILED): _S.FAILED,
    (_S.QUEUED, _E.EXPIRED): _S.EXPIRED,
    (_S.QUEUED, _E.REUSED): _S.SUCCEEDED,
    (_S.RUNNING, _E.SUCCEEDED): _S.SUCCEEDED,
    (_S.RUNNING, _E.FAILED): _S.FAILED,
    (_S.RUNNING, _E.CANCEL): _S.CANCELING,
    (_S.RUNNING, _E.INTERRUPTED): _S.CANCELED,
    (_S.RUNNING, _E.LOST): _S.QUEUED,
    (_S.RUNNING, _E.RELEASED): _S.QUEUED,
    (_S.CANCELING, _E.CANCEL): _S.CANCELING,
    (_S.CANCELING, _E.SUCCEEDED): _S.CANCELED,
    (_S.CANCELING, _E.FAILED): _S.CANCELED,
    (_S.CANCELING, _E.INTERRUPTED): _S.CANCELED,
    (_S.CANCELING, _E.LOST): _S.CANCELED,
    (_S.CANCELING, _E.RELEASED): _S.CANCELED,
}
TRANSITIONS = frozenset(_NEXT)


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed, with the evidence. `code` is stable."""

    code: str
    message: str
    node_id: str | None = None
    class_type: str | None = None
    exception_type: str | None = None
    traceback: tuple[str, ...] = ()
    exit_code: int | None = None
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One accepted prompt, without its documents. Times are seconds since the epoch, UTC.

    `id` is a lowercase UUID and what the engine gets as prompt id. `prompt_id` is what the client
    knows: the same, unless an older ComfyUI's client chose another text.
    """

    id: str
    deployment_id: str
    revision_id: str
    prompt_id: str
    number: float
    state: JobState
    created_at: float
    principal: str = ""
    client_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 0
    max_attempts: int = 2
    replica_id: str | None = None
    owner: str | None = None
    lease_until: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    error: JobError | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can change its state any more."""
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class JobDocuments:
    """The large values of a job: what is run, and what ComfyUI shows beside it."""

    prompt: Mapping[str, Any]
    extra_data: Mapping[str, Any]
    outputs_to_execute: tuple[str, ...]
    partial_execution_targets: tuple[str, ...] | None = None
    secrets: Mapping[str, Any] = field(default_factory=dict)


def step(job: Job, event: JobEventKind, *, now: float, error: JobError | None = None) -> Job:
    """Apply one event. A job that is lost with no attempt left fails with the evidence.

    RELEASED is an attempt that ended through no fault of the job (the server stopped): it is
    not counted.
    Raises IllegalTransition for a pair that the table does not have (every terminal state).
    """
    try:
        state = _NEXT[job.state, event]
    except KeyError:
        raise IllegalTransition(job.id, job.state, event) from None
    if event is JobEventKind.LOST and state is JobState.QUEUED and job.attempts >= job.max_attempts:
        state = JobState.FAILED
    if state is job.state:
        return job
    if state is JobState.RUNNING:
        return replace(job, state=state, started_at=now, attempts=job.attempts + 1)
    if state is JobState.CANCELING:
        return replace(job, state=state)
    released = replace(job, state=state, owner=None, lease_until=None)
    if state is JobState.QUEUED:
        attempts = job.attempts - (event is JobEventKind.RELEASED)
        return replace(released, replica_id=None, started_at=None, attempts=attempts, error=error)
    shown = error if state in {JobState.FAILED, JobState.EXPIRED} else None
    return replace(released, finished_at=now, error=shown)
