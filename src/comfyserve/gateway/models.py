"""The control API's JSON, as pydantic models: its OpenAPI is read from these."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, PlainSerializer

from comfyserve.domain.deployment import Deployment, DeploymentState
from comfyserve.domain.errors import EngineFailure
from comfyserve.domain.job import Job, JobError
from comfyserve.domain.replica import Replica, ReplicaState
from comfyserve.domain.spec import DeploymentSpec
from comfyserve.domain.usage import Receipt
from comfyserve.store.assets import Asset


def _rfc3339(value: float) -> str:
    text = datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


Time = Annotated[float, PlainSerializer(_rfc3339, return_type=str)]


class Model(BaseModel):
    """What is read off a value of the domain."""

    model_config = ConfigDict(from_attributes=True)


class ReplicaModel(Model):
    """One running copy of a revision."""

    id: str
    deployment: str
    revision: str
    state: ReplicaState
    cause: str
    since: Time
    created_at: Time
    ready_at: Time | None
    ended_at: Time | None
    host: str
    gpu: str
    pid: int | None
    endpoint: str
    exit_code: int | None
    message: str

    @classmethod
    def of(cls, replica: Replica, name: str) -> "ReplicaModel":
        """Show a replica of the deployment called `name`."""
        return cls(
            id=replica.id,
            deployment=name,
            revision=replica.revision_id,
            state=replica.state,
            cause=replica.cause,
            since=replica.since,
            created_at=replica.created_at,
            ready_at=replica.ready_at,
            ended_at=replica.ended_at,
            host=replica.host,
            gpu=replica.gpu,
            pid=replica.pid,
            endpoint=replica.endpoint,
            exit_code=replica.exit_code,
            message=replica.message,
        )


class FailureModel(Model):
    """Why an engine failed, with the end of its log."""

    code: str
    message: str
    log_tail: list[str]

    @classmethod
    def of(cls, failure: EngineFailure) -> "FailureModel":
        """Show a failure."""
        return cls(code=failure.code, message=failure.message, log_tail=list(failure.log_tail))


class QueueModel(Model):
    """How many jobs wait and run; of a plain deployment, how many requests."""

    queued: int
    running: int


Status = Literal["asleep", "waking", "ready", "busy", "stopped", "failing"]


class DeploymentModel(Model):
    """A named, long-lived thing that users address."""

    id: str
    name: str
    state: DeploymentState
    status: Status
    url: str
    engine: str
    engine_version: str
    revision: int
    spec: DeploymentSpec
    replicas: list[ReplicaModel]
    jobs: QueueModel
    last_start_error: FailureModel | None
    created_at: Time
    updated_at: Time
    warnings: list[str] = []

    @classmethod
    def of(
        cls,
        deployment: Deployment,
        url: str,
        replicas: Iterable[Replica],
        jobs: QueueModel,
        failure: EngineFailure | None,
    ) -> "DeploymentModel":
        """Show a deployment; its status follows from its replicas."""
        shown = [ReplicaModel.of(replica, deployment.name) for replica in replicas]
        return cls(
            id=deployment.id,
            name=deployment.name,
            state=deployment.state,
            status=_status_of(deployment, shown, jobs, failure),
            url=url,
            engine=deployment.spec.engine.kind,
            engine_version=deployment.revision.engine_version,
            revision=deployment.revision.number,
            spec=deployment.spec,
            replicas=shown,
            jobs=jobs,
            last_start_error=None if failure is None else FailureModel.of(failure),
            created_at=deployment.created_at,
            updated_at=deployment.updated_at,
        )


def _status_of(
    deployment: Deployment,
    replicas: list[ReplicaModel],
    jobs: QueueModel,
    failure: EngineFailure | None,
) -> Status:
    states = {replica.state for replica in replicas}
    if deployment.state is not DeploymentState.ACTIVE:
        return "stopped"
    if ReplicaState.READY in states:
        return "busy" if jobs.running else "ready"
    if states & {ReplicaState.PENDING, ReplicaState.STARTING}:
        return "waking"
    return "failing" if failure is not None else "asleep"


class OutputModel(Model):
    """A file that a job's node produced."""

    id: str
    node_id: str
    name: str
    subfolder: str
    type: str
    size_bytes: int
    content_type: str
    digest: str
    url: str

    @classmethod
    def of(cls, asset: Asset, base: str) -> "OutputModel":
        """Show an asset; `base` is the address of its deployment."""
        query = urlencode(
            {"filename": asset.name, "subfolder": asset.subfolder, "type": asset.type}
        )
        return cls(
            id=asset.id,
            node_id=asset.node_id,
            name=asset.name,
            subfolder=asset.subfolder,
            type=asset.type,
            size_bytes=asset.size_bytes,
            content_type=asset.content_type,
            digest=f"blake3:{asset.digest}",
            url=f"{base}/view?{query}",
        )


class JobModel(Model):
    """One accepted prompt."""

    id: str
    prompt_id: str
    deployment: str
    state: str
    number: float
    position: int | None = None
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    attempts: int
    max_attempts: int
    replica: str | None
    client_id: str | None
    labels: dict[str, str]
    error: JobError | None
    receipt: Receipt | None = None
    outputs: list[OutputModel] = []

    @classmethod
    def of(
        cls,
        job: Job,
        name: str,
        *,
        position: int | None = None,
        receipt: Receipt | None = None,
        outputs: Iterable[OutputModel] = (),
    ) -> "JobModel":
        """Show a job of the deployment called `name`."""
        return cls(
            id=job.id,
            prompt_id=job.prompt_id,
            deployment=name,
            state=job.state,
            number=job.number,
            position=position,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            attempts=job.attempts,
            max_attempts=job.max_attempts,
            replica=job.replica_id,
            client_id=job.client_id,
            labels=dict(job.labels),
            error=job.error,
            receipt=receipt,
            outputs=list(outputs),
        )


class TokenModel(Model):
    """A credential, without its secret."""

    id: str
    name: str
    scopes: list[str]
    deployment: str | None
    created_at: Time
    secret: str | None = None


class NewToken(BaseModel):
    """What a token is asked for with."""

    name: str
    scopes: list[Literal["read", "run", "admin"]] = ["run"]
    deployment: str | None = None


class HealthModel(Model):
    """Whether the server is ready to take work."""

    status: Literal["ok", "starting"]
    version: str
    home: str
    deployments: int
    replicas: int
    jobs: QueueModel


class ErrorBody(BaseModel):
    """What went wrong: a stable code, and a message that says what to do."""

    code: str
    message: str
    details: dict[str, Any] = {}


class ErrorModel(BaseModel):
    """The envelope of every error of this API."""

    error: ErrorBody


class DeploymentList(Model):
    """All deployments."""

    deployments: list[DeploymentModel]


class ReplicaList(Model):
    """Replicas."""

    replicas: list[ReplicaModel]


class JobList(Model):
    """One page of jobs, newest first."""

    jobs: list[JobModel]
    next_cursor: str | None


class TokenList(Model):
    """All tokens."""

    tokens: list[TokenModel]
