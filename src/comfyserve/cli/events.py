"""A job's event stream: server-sent events read off a response, then as values."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from comfyserve.cli.answers import Job


@dataclass(frozen=True, slots=True)
class JobSeen:
    """The job as it is: always the first event."""

    job: Job


@dataclass(frozen=True, slots=True)
class StageReached:
    """Where the job is on its way: queued, placing, starting, running or saving."""

    stage: str
    position: int | None = None
    replica: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class EngineMessage:
    """A message of the engine, in ComfyUI's shape."""

    type: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The job in its last state, with outputs and receipt: always the last event."""

    job: Job


JobEvent = JobSeen | StageReached | EngineMessage | JobEnded


def read_events(lines: Iterable[bytes]) -> Iterator[JobEvent | None]:
    """Yield the events of a stream, and None for a heartbeat. Unknown events are left out.

    The format is the HTML standard's: `event:` and `data:` lines, a blank line ends an event, a
    line that begins with a colon is a comment. Raises msgspec.MsgspecError for data of another shape.
    """
    name = ""
    data: list[str] = []
    for line in lines:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            if data and (event := _decode(name, "\n".join(data))) is not None:
                yield event
            name, data = "", []
            continue
        key, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if not key:
            yield None
        elif key == "event":
            name = value
        elif key == "data":
            data.append(value)


def _decode(name: str, data: str) -> JobEvent | None:
    match name:
        case "job":
            return JobSeen(msgspec.json.decode(data, type=Job))
        case "stage":
            return msgspec.json.decode(data, type=StageReached)
        case "message":
            return msgspec.json.decode(data, type=EngineMessage)
        case "end":
            return JobEnded(msgspec.json.decode(data, type=Job))
        case _:
            return None
