"""What a user asks for: the frozen specs of a deployment and their checks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comfyserve.domain.engine_spec import (
    AppSpec,
    EngineKind,
    EngineSpec,
    VolumeMount,
    check_engine_spec,
    check_variables,
    check_volumes,
    require,
    takes_any_port,
)
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.secret import check_secret_name

__all__ = [
    "AppSpec",
    "DeploymentSpec",
    "EngineKind",
    "EngineSpec",
    "Limits",
    "Resources",
    "Scaling",
    "Timeouts",
    "VolumeMount",
    "check_name",
]

NAME_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LEAST_MEMORY_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Resources:
    """What one replica holds: GPUs by short type name (`H100`, `any`), or the CPU alone.

    `gpus` None is settled at deploy time: one for ComfyUI where the launcher has any, else none.
    `cpu` (cores) and `memory_bytes` are requests, enforced where the host can.
    """

    gpu: str | None = None
    gpus: int | None = None
    cpu: float | None = None
    memory_bytes: int | None = None


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
    """Bounds on what callers may pile up.

    `concurrency` is how many requests one replica takes at once behind the plain proxy; a ComfyUI
    runs one prompt at a time whatever it says.
    """

    max_queue: int = 1000
    max_attempts: int = 2
    max_upload_bytes: int = 100 * 1024 * 1024
    concurrency: int = 1


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """Everything that a revision fixes.

    `secrets` are names, injected as environment. `inputs` is the JSON schema of an application's
    request bodies, checked before anything wakes. `authorized` False opens it to everybody.
    """

    engine: EngineSpec = field(default_factory=EngineSpec)
    resources: Resources = field(default_factory=Resources)
    scaling: Scaling = field(default_factory=Scaling)
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    port: int | None = None
    allow_routes: tuple[str, ...] = ()
    volumes: tuple[VolumeMount, ...] = ()
    secrets: tuple[str, ...] = ()
    inputs: Mapping[str, Any] | None = None
    authorized: bool = True

    def check(self) -> None:
        """Raise InvalidInput for the first value that makes no sense."""
        scaling, timeouts, limits = self.scaling, self.timeouts, self.limits
        require(scaling.max_replicas >= 1, "max_replicas must be at least 1")
        require(
            0 <= scaling.min_replicas <= scaling.max_replicas,
            f"min_replicas must be between 0 and max_replicas ({scaling.max_replicas})",
        )
        require(scaling.idle_timeout_s >= 0, "idle_timeout_s must not be negative")
        require(timeouts.start_s > 0, "start timeout must be positive")
        require(timeouts.job_s > 0, "job timeout must be positive")
        require(timeouts.queue_s >= 0, "queue timeout must not be negative")
        require(limits.max_queue >= 1, "max_queue must be at least 1")
        require(limits.max_attempts >= 1, "max_attempts must be at least 1")
        require(limits.concurrency >= 1, "concurrency must be at least 1")
        require(self.port is None or 0 <= self.port <= 65535, "port must be between 0 and 65535")
        _check_resources(self.resources)
        check_engine_spec(self.engine)
        require(
            self.engine.container_port is None
            or scaling.max_replicas == 1
            or takes_any_port(self.engine),
            f"the command listens on port {self.engine.container_port} whatever it is told, so "
            "there can be one replica at most: set max_replicas to 1, or have it listen on {port} "
            "or on the variable PORT",
        )
        require(
            self.inputs is None or self.engine.kind is EngineKind.APP,
            "inputs (a schema of request bodies) go with an app only",
        )
        check_variables(tuple(self.engine.env))
        for name in self.secrets:
            check_secret_name(name)
            require(name not in self.engine.env, f"'{name}' is both in env and in secrets")
        check_volumes(self.engine, self.volumes)


def check_name(name: str) -> str:
    """Return `name` if it can be a host label, else raise InvalidInput."""
    if NAME_PATTERN.fullmatch(name):
        return name
    raise InvalidInput(
        f"'{name[:80]}' cannot be a deployment name: use 1 to 63 of a-z, 0-9 and '-', "
        "beginning and ending with a letter or digit",
        code="invalid_name",
    )


def _check_resources(resources: Resources) -> None:
    memory = resources.memory_bytes
    require((resources.gpus or 0) >= 0, "gpus must not be negative")
    require(resources.cpu is None or resources.cpu > 0, "cpu must be positive")
    require(memory is None or memory >= _LEAST_MEMORY_BYTES, "memory must be at least 16 MiB")
