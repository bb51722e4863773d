"""The control API's JSON about what a deployment was, and how long its replicas are kept."""

from pydantic import BaseModel, ConfigDict, Field

from comfyserve.domain.deployment import Deployment, Revision
from comfyserve.domain.spec import DeploymentSpec
from comfyserve.gateway.models import Time


class RevisionModel(BaseModel):
    """One immutable snapshot of a deployment."""

    id: str
    number: int
    is_current: bool
    engine: str
    engine_version: str
    is_plain: bool = Field(description="It is no ComfyUI: its door is the plain proxy.")
    created_at: Time
    spec: DeploymentSpec

    @classmethod
    def of(cls, revision: Revision, deployment: Deployment) -> "RevisionModel":
        """Show a revision of a deployment."""
        return cls(
            id=revision.id,
            number=revision.number,
            is_current=revision.id == deployment.revision.id,
            engine=revision.spec.engine.kind,
            engine_version=revision.engine_version,
            is_plain=revision.is_plain,
            created_at=revision.created_at,
            spec=revision.spec,
        )


class RevisionList(BaseModel):
    """All revisions of a deployment, oldest first."""

    revisions: list[RevisionModel]


class Rollback(BaseModel):
    """Which revision is to be the current one again; none: the one before the current."""

    model_config = ConfigDict(extra="forbid")

    revision: int | None = Field(default=None, ge=1)


class KeepAlive(BaseModel):
    """How long idle replicas stay, from now on (a day at most)."""

    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(gt=0, le=86400)


class Kept(BaseModel):
    """The replicas that stay."""

    replicas: list[str]
