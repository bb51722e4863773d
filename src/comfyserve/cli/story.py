"""A job's events as a story: what is over, and what is being done. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from comfyserve.cli.events import EngineMessage, JobEnded, JobEvent, JobSeen, StageReached
from comfyserve.domain.job import JobState

_SHORTEST_STAGE_S = 0.05
"""A stage that passed quicker than anybody can see is not worth a line."""
_BEFORE_RUNNING = frozenset({"queued", "placing", "starting"})


class Mark(StrEnum):
    """How something ended."""

    DONE = "done"
    CACHED = "cached"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Line:
    """Something that is over. `seconds` is None where it took no time of this job."""

    mark: Mark
    text: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Doing:
    """What is being done, since when (monotonic seconds), and how far it is, where that is known."""

    key: str
    text: str
    since: float
    node_id: str | None = None
    value: float = 0.0
    maximum: float = 0.0


class Story:
    """Follows one job. `labels` names nodes by id."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = labels
        self._has_run = False
        self._has_woken = False
        self.doing: Doing | None = None

    def take(self, event: JobEvent, now: float) -> list[Line]:
        """Take one event at `now` (monotonic seconds); return the lines that it completes."""
        match event:
            case StageReached():
                return list(self._reach(event, now))
            case EngineMessage():
                return list(self._hear(event.type, event.data, now))
            case JobEnded(job):
                return self._end(now, Mark.DONE if job.state is JobState.SUCCEEDED else Mark.FAILED)
            case JobSeen():
                return []

    def _reach(self, stage: StageReached, now: float) -> Iterator[Line]:
        key, text = _stage_key(stage), _stage_text(stage)
        if stage.stage == "queued" and stage.position == 0 and self._has_woken:
            key, text = "handing", "handing it to the replica"
        self._has_woken = stage.stage == "starting" or (self._has_woken and stage.stage == "queued")
        if stage.stage in _BEFORE_RUNNING and self._has_run:
            self._has_run, self.doing = False, None
            yield Line(Mark.FAILED, "the attempt was lost; the job is tried again")
        if self.doing is not None and self.doing.key == key:
            self.doing = replace(self.doing, text=text)
        else:
            yield from self._begin(Doing(key, text, now))

    def _hear(self, kind: str, data: Mapping[str, Any], now: float) -> Iterator[Line]:
        self._has_run = True
        match kind:
            case "execution_cached":
                for node_id in data.get("nodes") or ():
                    yield Line(Mark.CACHED, self._label(str(node_id)))
            case "executing":
                node_id = data.get("display_node") or data.get("node")
                yield from self._enter(None if node_id is None else str(node_id), now)
            case "progress":
                node_id = data.get("display_node") or data.get("node")
                yield from self._advance(str(node_id), data, now)
            case "progress_state":
                for node_id, state in (data.get("nodes") or {}).items():
                    if state.get("state") == "running" and self._is_doing(str(node_id)):
                        yield from self._advance(str(node_id), state, now)
            case "execution_error":
                self.doing = None
                message = str(data.get("exception_message") or "failed").strip()
                node_id = data.get("node_id")
                where = f"{self._label(str(node_id))}: " if node_id else ""
                yield Line(Mark.FAILED, where + message)
            case _:
                pass

    def _enter(self, node_id: str | None, now: float) -> Iterator[Line]:
        if node_id is None:
            yield from self._end(now)
        elif not self._is_doing(node_id):
            yield from self._begin(Doing(f"node {node_id}", self._label(node_id), now, node_id))

    def _advance(self, node_id: str, data: Mapping[str, Any], now: float) -> Iterator[Line]:
        yield from self._enter(node_id, now)
        value, maximum = data.get("value"), data.get("max")
        if self.doing and isinstance(value, int | float) and isinstance(maximum, int | float):
            self.doing = replace(self.doing, value=float(value), maximum=float(maximum))

    def _begin(self, doing: Doing) -> list[Line]:
        ended = self._end(doing.since)
        self.doing = doing
        return ended

    def _end(self, now: float, mark: Mark = Mark.DONE) -> list[Line]:
        ended, self.doing = self.doing, None
        if ended is None:
            return []
        seconds = now - ended.since
        if ended.node_id is None and (seconds < _SHORTEST_STAGE_S or mark is Mark.FAILED):
            return []
        return [Line(mark, ended.text, seconds)]

    def _is_doing(self, node_id: str) -> bool:
        return self.doing is not None and self.doing.node_id == node_id

    def _label(self, node_id: str) -> str:
        label = self._labels.get(node_id)
        return f"{node_id} {label}" if label else f"node {node_id}"


def _stage_key(stage: StageReached) -> str:
    return f"{stage.stage} {stage.replica or ''}"


def _stage_text(stage: StageReached) -> str:
    detail = f" ({stage.detail})" if stage.detail else ""
    match stage.stage:
        case "queued":
            return _queued(stage.position) + detail
        case "placing":
            return f"finding a place{detail}"
        case "starting":
            return f"waking {stage.replica or 'a replica'}{detail}"
        case "running":
            return f"running{detail}"
        case "saving":
            return f"saving the outputs{detail}"
        case _:
            return stage.stage + detail


def _queued(position: int | None) -> str:
    """How many jobs go first; a fresh job knows nothing yet."""
    match position:
        case None:
            return "queued"
        case 0:
            return "queued, next in line"
        case _:
            return f"queued, {position} before it"
