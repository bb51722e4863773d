"""What a user asks for: the frozen specs of a deployment and their checks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from comfyserve.domain.errors import InvalidInput

NAME_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class EngineKind(StrEnum):
    """Which server a replica runs."""

    EMBEDDED = "embedded"
    COMFYUI = "comfyui"


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """How to start one engine process.

    `comfyui_dir` holds ComfyUI's `main.py`; `python` is the interpreter that has its requirements
    (None: a virtual environment inside the directory, else the `python3` on PATH). `args` go to
    the engine as they are; `env` is added to an otherwise clean environment.
    """

    kind: EngineKind = EngineKind.EMBEDDED
    comfyui_dir: str | None = None
    python: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resources:
    """What one replica holds: GPUs by short type name (`H100`, `any`), or the CPU alone.

    `gpus` None is settled at deploy time: one for ComfyUI where the launcher has any, else none.
    """

    gpu: str | None = None
    gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many replicas, and how long one may sit without work (seconds)."""

    min_replicas: int = 0
    max_replicas: int = 1
    idle_timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines in seconds. `job_s` bounds one attempt, `queue_s` the wait for a slot (0: none)."""

    start_s: float = 300.0
    job_s: float = 3600.0
    queue_s: float = 0.0
    stop_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what callers may pile up."""

    max_queue: int = 1000
    max_attempts: int = 2
    max_upload_bytes: int = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """Everything that a revision fixes."""

    engine: EngineSpec = field(default_factory=EngineSpec)
    resources: Resources = field(default_factory=Resources)
    scaling: Scaling = field(default_factory=Scaling)
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    port: int | None = None
    allow_routes: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise InvalidInput for the first value that makes no sense."""
        scaling, timeouts, limits = self.scaling, self.timeouts, self.limits
        _require(scaling.max_replicas >= 1, "max_replicas must be at least 1")
        _require(
            0 <= scaling.min_replicas <= scaling.max_replicas,
            f"min_replicas must be between 0 and max_replicas ({scaling.max_replicas})",
        )
        _require(scaling.idle_timeout_s >= 0, "idle_timeout_s must not be negative")
        _require(timeouts.start_s > 0, "start timeout must be positive")
        _require(timeouts.job_s > 0, "job timeout must be positive")
        _require(timeouts.queue_s >= 0, "queue timeout must not be negative")
        _require(limits.max_queue >= 1, "max_queue must be at least 1")
        _require(limits.max_attempts >= 1, "max_attempts must be at least 1")
        _require((self.resources.gpus or 0) >= 0, "gpus must not be negative")
        _require(self.port is None or 0 <= self.port <= 65535, "port must be between 0 and 65535")
        if self.engine.kind is EngineKind.COMFYUI:
            _require(bool(self.engine.comfyui_dir), "engine comfyui needs comfyui_dir")


def check_name(name: str) -> str:
    """Return `name` if it can be a host label, else raise InvalidInput."""
    if NAME_PATTERN.fullmatch(name):
        return name
    raise InvalidInput(
        f"'{name[:80]}' cannot be a deployment name: use 1 to 63 of a-z, 0-9 and '-', "
        "beginning and ending with a letter or digit",
        code="invalid_name",
    )


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 - a condition, not a mode
    if not holds:
        raise InvalidInput(message, code="invalid_spec")
