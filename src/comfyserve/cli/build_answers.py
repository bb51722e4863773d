"""Builds, as the server answers them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is."""

    step: int
    steps: int
    title: str
    cached: bool = False
    done_bytes: int = 0
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Build:
    """One build."""

    id: str
    digest: str
    state: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress | None = None
    message: str = ""
    log_tail: tuple[str, ...] = ()
    size_bytes: int = 0
    lock: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    import_times: Mapping[str, float] = field(default_factory=dict)

    @property
    def duration_s(self) -> float | None:
        """How long it took."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Builds:
    """Builds, newest first."""

    builds: tuple[Build, ...]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed."""

    images: int
    layers: int
    models: int
    freed_bytes: int
