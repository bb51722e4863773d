"""What the bus carries: facts about jobs, queues and replicas, for whoever listens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfyserve.domain.job import Job
from comfyserve.domain.replica import Replica


@dataclass(frozen=True, slots=True)
class JobChanged:
    """A job entered a state, committed before it was announced."""

    job: Job

    @property
    def deployment_id(self) -> str:
        """Which deployment it concerns."""
        return self.job.deployment_id


@dataclass(frozen=True, slots=True)
class EngineMessage:
    """A message of the engine about a running job, in ComfyUI's shape, with public file names."""

    deployment_id: str
    job_id: str
    client_id: str | None
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Preview:
    """A preview picture of a running job; the first thing to be dropped for a slow reader."""

    deployment_id: str
    job_id: str
    client_id: str | None
    metadata: Mapping[str, Any]
    image: bytes


@dataclass(frozen=True, slots=True)
class EngineFrame:
    """A binary message of the engine that is not a preview picture, such as progress text."""

    deployment_id: str
    job_id: str
    client_id: str | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class QueueChanged:
    """How many jobs are queued or running now."""

    deployment_id: str
    remaining: int


@dataclass(frozen=True, slots=True)
class ReplicaChanged:
    """A replica entered a state."""

    replica: Replica

    @property
    def deployment_id(self) -> str:
        """Which deployment it concerns."""
        return self.replica.deployment_id


BusEvent = JobChanged | EngineMessage | EngineFrame | Preview | QueueChanged | ReplicaChanged
