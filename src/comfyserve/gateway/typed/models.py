"""The typed door's JSON, as pydantic models: its OpenAPI is read from these."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from comfyserve.domain.job import JobState
from comfyserve.domain.story import Stage
from comfyserve.domain.usage import Receipt
from comfyserve.gateway.models import Time

MOST_CALLS = 1000
"""Calls that one batch can have."""

OutputKind = Literal["image", "video", "audio", "text", "model", "file"]


class _Model(BaseModel):
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class NodeModel(_Model):
    """A node of the workflow, as its author sees it."""

    id: str
    title: str
    class_type: str


class ProgressModel(_Model):
    """How far a running job is: 0 to 1, and the node and step that it is at."""

    value: float
    nodes_done: int
    nodes_total: int
    node: NodeModel | None
    step: int | None
    steps: int | None


class OutputModel(_Model):
    """A file that the job made. `url` works without a token until `url_expires_at`."""

    index: int = Field(description="Among what there is so far; final once the job has ended.")
    name: str | None = Field(description="Its name in the interface; null for another file.")
    kind: OutputKind
    filename: str
    content_type: str
    size_bytes: int
    hash: str
    node: NodeModel
    asset_id: str = Field(description="Can be given as a file input of another call.")
    url: str
    url_expires_at: Time


class JobErrorModel(_Model):
    """Why a job failed."""

    code: str
    message: str
    node: NodeModel | None
    exception_type: str | None
    log_tail: list[str]


class JobUrls(_Model):
    """Where the rest of a job is, from the host's root."""

    self: str
    events: str
    cancel: str


class JobModel(_Model):
    """One call: where it stands, what it made, where its time went."""

    id: str
    endpoint: str | None = Field(description="Null for a job of another door.")
    version: int | None
    state: JobState
    stage: Stage
    detail: str = Field(description="What it waits for, where that can be told.")
    position: int | None = Field(description="1 for the job that is next; null unless queued.")
    eta_s: float | None = Field(description="Seconds until it is done, by what others took.")
    progress: ProgressModel | None
    inputs: dict[str, Any]
    outputs: list[OutputModel]
    texts: dict[str, list[str]] = Field(description="What nodes said in words, by output.")
    error: JobErrorModel | None
    receipt: Receipt | None
    labels: dict[str, str]
    batch: str | None
    reused_from: str | None = Field(description="The job whose stored outputs these are.")
    attempts: int
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    urls: JobUrls


class JobRow(_Model):
    """A job in a list."""

    id: str
    endpoint: str | None
    version: int | None
    state: JobState
    labels: dict[str, str]
    batch: str | None
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    url: str


class JobPage(_Model):
    """One page of jobs, newest first."""

    jobs: list[JobRow]
    next_cursor: str | None


class BatchUrls(_Model):
    """Where the rest of a batch is, from the host's root."""

    self: str
    jobs: str
    outputs: str
    cancel: str


class BatchModel(_Model):
    """Many calls as one thing."""

    id: str
    endpoint: str
    version: int
    size: int
    state: Literal["running", "done"]
    counts: dict[str, int] = Field(description="How many jobs are in each state.")
    progress: float = Field(description="0 to 1: the share of jobs that have ended.")
    labels: dict[str, str]
    created_at: Time
    finished_at: Time | None
    urls: BatchUrls


class BatchPage(_Model):
    """One page of batches, newest first."""

    batches: list[BatchModel]
    next_cursor: str | None


class InputProblem(_Model):
    """One thing that is wrong with the inputs, or with the workflow behind them."""

    input: str | None
    code: str
    message: str
    given: Any
    allowed: str
    nearest: list[str]
    hint: str
    node_id: str | None = None
    index: int | None = Field(default=None, description="Which call of a batch; from 0.")


class ErrorBody(_Model):
    """A stable code, and a message that says what to do."""

    code: str
    message: str
    details: dict[str, Any]


class ErrorModel(_Model):
    """The envelope of every error of this door."""

    error: ErrorBody


class EndpointInput(_Model):
    """One named input."""

    name: str
    type: str
    label: str
    description: str
    role: str | None
    default: Any
    required: bool
    min: Annotated[float | None, Field(default=None)]
    max: Annotated[float | None, Field(default=None)]
    step: Annotated[float | None, Field(default=None)]
    choices: Annotated[list[Any] | None, Field(default=None)]
    multiline: bool = False


class EndpointOutput(_Model):
    """One named output."""

    name: str
    type: str
    label: str


class EndpointModel(_Model):
    """What an endpoint takes and gives."""

    name: str
    version: int
    published_at: Time
    reuse: bool
    inputs: list[EndpointInput]
    outputs: list[EndpointOutput]
    urls: dict[str, str]


class EndpointIndex(_Model):
    """The endpoints of a deployment."""

    endpoints: list[EndpointModel]
