"""Builds as the control API shows them."""

import json
from typing import Any, Self

from pydantic import BaseModel

from comfyserve.build.bench import Progress
from comfyserve.build.prune import Pruned
from comfyserve.domain.build import Build, BuildState
from comfyserve.gateway.models import Time


class ProgressModel(BaseModel):
    """How far a build is: which step of how many, and bytes where it loads something."""

    step: int
    steps: int
    title: str
    cached: bool
    done_bytes: int
    total_bytes: int | None

    @classmethod
    def of(cls, progress: Progress | None) -> Self | None:
        """Show the progress of a build that is under way."""
        if progress is None:
            return None
        return cls(
            step=progress.number,
            steps=progress.total,
            title=progress.title,
            cached=progress.is_cached,
            done_bytes=progress.done_bytes,
            total_bytes=progress.total_bytes,
        )


class BuildModel(BaseModel):
    """One build. `digest` is what `engine.image` of a spec takes once it has succeeded."""

    id: str
    digest: str
    state: BuildState
    no_cache: bool
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    progress: ProgressModel | None
    message: str
    code: str
    log_tail: list[str]
    size_bytes: int
    lock: dict[str, str]
    warnings: list[str]
    import_times: dict[str, float]
    image: dict[str, Any]

    @classmethod
    def of(cls, build: Build, progress: Progress | None = None) -> Self:
        """Show a build."""
        result = build.result
        return cls(
            id=build.id,
            digest=build.digest,
            state=build.state,
            no_cache=build.is_fresh,
            created_at=build.created_at,
            started_at=build.started_at,
            finished_at=build.finished_at,
            progress=ProgressModel.of(progress),
            message=result.message,
            code=result.code,
            log_tail=list(result.log_tail),
            size_bytes=result.size_bytes,
            lock=dict(result.lock),
            warnings=list(result.warnings),
            import_times=dict(result.import_times),
            image=json.loads(build.image),
        )


class BuildList(BaseModel):
    """Builds, newest first."""

    builds: list[BuildModel]


class PrunedModel(BaseModel):
    """What a prune removed."""

    images: int
    layers: int
    models: int
    freed_bytes: int

    @classmethod
    def of(cls, pruned: Pruned) -> Self:
        """Show it."""
        return cls(
            images=pruned.images,
            layers=pruned.layers,
            models=pruned.models,
            freed_bytes=pruned.freed_bytes,
        )
