"""A build as a table of states: what may follow what."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from comfyserve.domain.errors import IllegalTransition


class BuildState(StrEnum):
    """Where a build stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class BuildEvent(StrEnum):
    """What happens to a build. LOST: the server ended meanwhile."""

    BEGUN = "begun"
    BUILT = "built"
    BROKEN = "broken"
    CANCELED = "canceled"
    LOST = "lost"


_NEXT: Mapping[tuple[BuildState, BuildEvent], BuildState] = {
    (BuildState.QUEUED, BuildEvent.BEGUN): BuildState.RUNNING,
    (BuildState.QUEUED, BuildEvent.CANCELED): BuildState.CANCELED,
    (BuildState.QUEUED, BuildEvent.LOST): BuildState.FAILED,
    (BuildState.RUNNING, BuildEvent.BUILT): BuildState.SUCCEEDED,
    (BuildState.RUNNING, BuildEvent.BROKEN): BuildState.FAILED,
    (BuildState.RUNNING, BuildEvent.CANCELED): BuildState.CANCELED,
    (BuildState.RUNNING, BuildEvent.LOST): BuildState.FAILED,
}


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build made, or why it did not.

    `lock` is what was resolved; `import_times` are seconds by custom node pack, as ComfyUI reports
    them; `log_tail` is the end of a failed step's output.
    """

    message: str = ""
    code: str = ""
    log_tail: tuple[str, ...] = ()
    size_bytes: int = 0
    lock: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    import_times: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Build:
    """One run of a recipe. `image` is the canonical JSON of the spec."""

    id: str
    digest: str
    image: str
    is_fresh: bool
    state: BuildState
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    result: BuildResult = BuildResult()

    @property
    def is_terminal(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.state not in {BuildState.QUEUED, BuildState.RUNNING}


def step(build: Build, event: BuildEvent, now: float, result: BuildResult | None = None) -> Build:
    """Apply one event; return the new record. Raises IllegalTransition."""
    state = _NEXT.get((build.state, event))
    if state is None:
        raise IllegalTransition(build.id, build.state, event)
    changed = replace(build, state=state, result=result or build.result)
    if state is BuildState.RUNNING:
        return replace(changed, started_at=now)
    return replace(changed, finished_at=now)
