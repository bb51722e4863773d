"""Deployments and their immutable revisions."""

from dataclasses import dataclass
from enum import StrEnum

from comfyserve.domain.spec import DeploymentSpec


class DeploymentState(StrEnum):
    """Whether a deployment takes work. How awake it is follows from its replicas."""

    ACTIVE = "active"
    STOPPED = "stopped"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Revision:
    """One immutable snapshot of a deployment: spec, engine version and recorded answers.

    `snapshot_digest` names the blob with the engine's own answers to `/object_info`,
    `/system_stats` and the like, recorded once when the revision was made; it is empty for a
    server that is not ComfyUI.
    """

    id: str
    deployment_id: str
    number: int
    spec: DeploymentSpec
    engine_version: str
    snapshot_digest: str
    created_at: float

    @property
    def is_plain(self) -> bool:
        """Whether it is no ComfyUI: its door is the plain proxy."""
        return not self.snapshot_digest

    @property
    def slots(self) -> int:
        """Jobs or requests at once on one replica; ComfyUI runs one prompt whatever the spec says."""
        return self.spec.limits.concurrency if self.is_plain else 1


@dataclass(frozen=True, slots=True)
class Deployment:
    """A named, long-lived thing that users address."""

    id: str
    name: str
    state: DeploymentState
    revision: Revision
    created_at: float
    updated_at: float

    @property
    def spec(self) -> DeploymentSpec:
        """The spec of the current revision."""
        return self.revision.spec
