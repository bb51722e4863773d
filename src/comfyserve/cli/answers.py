"""What the control API answers, as values. Unknown fields are ignored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from comfyserve.domain.budget import BudgetKind
from comfyserve.domain.estimate import Basis, Spread
from comfyserve.domain.job import JobError, JobState
from comfyserve.domain.replica import Cause, ReplicaState
from comfyserve.domain.usage import Receipt

T = TypeVar("T")
Json = Any
"""Decoded JSON, at the border."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """An answer as a value, and as the JSON that came (what `--json` prints)."""

    value: T
    json: Json


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Open jobs of a deployment, or of the whole server."""

    queued: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """The server's own state."""

    status: str
    version: str
    home: str
    deployments: int
    replicas: int
    jobs: JobCounts


@dataclass(frozen=True, slots=True)
class Replica:
    """One running copy of a revision."""

    id: str
    deployment: str
    state: ReplicaState
    cause: Cause
    since: datetime
    created_at: datetime
    revision: int | str | None = None
    ready_at: datetime | None = None
    ended_at: datetime | None = None
    host: str = ""
    gpu: str = ""
    pid: int | None = None
    endpoint: str = ""
    exit_code: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class StartError:
    """Why the last start of a deployment failed."""

    code: str
    message: str
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment with what is going on in it. `warnings` only come from a deploy."""

    name: str
    id: str
    state: str
    status: str
    url: str
    engine: str
    revision: int
    created_at: datetime
    updated_at: datetime
    engine_version: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    replicas: tuple[Replica, ...] = ()
    jobs: JobCounts = field(default_factory=JobCounts)
    last_start_error: StartError | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a job's node produced. `url` is relative to the server, or absolute."""

    node_id: str
    name: str
    url: str
    type: str = "output"
    subfolder: str = ""
    size_bytes: int = 0
    content_type: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One accepted prompt. `outputs` and `receipt` come with a single job, not in lists.

    `position` is how many jobs go before it, None once it does not wait any more.
    """

    id: str
    deployment: str
    state: JobState
    created_at: datetime
    prompt_id: str = ""
    number: float = 0.0
    position: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int = 0
    max_attempts: int = 0
    replica: str | None = None
    client_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    error: JobError | None = None
    receipt: Receipt | None = None
    outputs: tuple[Output, ...] = ()


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, newest first, and where the next page begins."""

    jobs: tuple[Job, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Seconds by kind and their price; `id` or `name` says of what."""

    starting_s: float
    busy_s: float
    idle_s: float
    draining_s: float
    awake_s: float
    billed_s: float
    cost: float
    id: str = ""
    key: str = ""
    name: str = ""
    deployment: str = ""
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """The ledger: the parts sum to the totals, and so do the groups where some were asked for."""

    totals: UsageRow
    deployments: tuple[UsageRow, ...] = ()
    replicas: tuple[UsageRow, ...] = ()
    groups: tuple[UsageRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """A monthly cap, and what is spent of it since the month began."""

    kind: BudgetKind
    id: str
    name: str
    monthly_cost: float
    spent: float
    is_spent: bool
    until: datetime


@dataclass(frozen=True, slots=True)
class Budgets:
    """All caps."""

    budgets: tuple[Budget, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one job would take on an awake replica, and cost; None where nothing like it has run."""

    basis: Basis
    samples: int
    price_per_hour: float
    load_ms: Spread | None = None
    execute_ms: Spread | None = None
    billed_ms: Spread | None = None
    cost: Spread | None = None
    wake_s: float | None = None
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """A credential. Only the answer to its creation has the `secret`."""

    id: str
    name: str
    scopes: tuple[str, ...]
    deployment: str | None = None
    created_at: datetime | None = None
    revoked_at: datetime | None = None
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class Deployments:
    """All deployments."""

    deployments: tuple[Deployment, ...]


@dataclass(frozen=True, slots=True)
class Replicas:
    """Some replicas."""

    replicas: tuple[Replica, ...]


@dataclass(frozen=True, slots=True)
class Tokens:
    """All tokens."""

    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Remark:
    """What is odd about a workflow without keeping it from running."""

    message: str
    details: str = ""
    hint: str = ""
    node_id: str | None = None
    node_title: str | None = None
    class_type: str | None = None

    @property
    def line(self) -> str:
        """In one line: where, what, how to mend it."""
        title = self.node_title if self.node_title != self.class_type else None
        shown = f' "{title}"' if title else ""
        about = f" ({self.class_type})" if self.class_type else ""
        where = f"node {self.node_id}{shown}{about}: " if self.node_id else ""
        return f"{where}{self.message} {self.hint}".strip()


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to an accepted `POST /prompt`."""

    prompt_id: str
    number: float = 0.0
    node_errors: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Where an uploaded file can be found by a node."""

    name: str
    subfolder: str = ""
    type: str = "input"

    @property
    def reference(self) -> str:
        """The text that a node's input takes."""
        return f"{self.subfolder}/{self.name}" if self.subfolder else self.name


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A typed endpoint. `problems`: why it does not fit its deployment as that is now."""

    name: str
    deployment: str
    url: str
    version: int
    published_at: datetime
    interface: Mapping[str, Any]
    reuse: bool = False
    problems: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """A typed endpoint in a list."""

    name: str
    deployment: str
    url: str
    version: int
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Typed endpoints."""

    endpoints: tuple[EndpointRow, ...]


@dataclass(frozen=True, slots=True)
class EndpointVersion:
    """One version of a typed endpoint."""

    number: int
    current: bool
    published_at: datetime
    published_by: str = ""


@dataclass(frozen=True, slots=True)
class EndpointVersions:
    """All versions of a typed endpoint, the newest first."""

    versions: tuple[EndpointVersion, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A link to an output that needs no token."""

    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Revoked:
    """How often the links to an output have been revoked."""

    revoked: int
