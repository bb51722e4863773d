"""A job's story as server-sent events, from its beginning whenever one comes, to its end.

What must not be missed (stages, nodes, outputs, the end) has an id, and is replayed after the
`Last-Event-ID` that a reader shows. How far a node is, its preview and the place in the queue are
told as they are at the moment, without an id: whoever comes later needs the present ones only.
"""

import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from pydantic import BaseModel

from comfyserve.domain.events import Preview
from comfyserve.domain.job import Job, JobState
from comfyserve.domain.progress import Progress
from comfyserve.domain.story import Entry, Kind, Stage, Story, event_id, parse_event_id
from comfyserve.gateway.door import Call
from comfyserve.gateway.job_facts import attempt_at
from comfyserve.gateway.listening import MOST_WAITING, Ear
from comfyserve.gateway.typed.shapes import (
    Subject,
    assets_of,
    job_model,
    output_model,
    progress_shown,
    standing_of,
    subject_of,
)
from comfyserve.runtime.bus import of_job
from comfyserve.store.assets import Asset

END = "end"
"""The id of the last event: a reader who shows it has heard everything."""
_MOST_PREVIEW_BYTES = 1024 * 1024
_HEARTBEAT = b": still here\n\n"
_RETRY = b"retry: 2000\n\n"
_WAITING = frozenset({Stage.QUEUED, Stage.PLACING, Stage.STARTING})


async def event_stream(
    call: Call, job: Job, last_event_id: str | None = None
) -> AsyncIterator[bytes]:
    """Tell a job's story from where the reader left it, until the job ends."""
    gateway = call.gateway
    with (
        call.streams.counted(),
        gateway.bus.subscribe(job.deployment_id, of_job(job.id), limit=MOST_WAITING) as news,
    ):
        # Read again after subscribing: what changes from now on is heard.
        job = await gateway.store.jobs.get(job.id) or job
        reader = _Reader(call, job, await subject_of(gateway, job), last_event_id)
        yield _RETRY
        while True:
            for frame in await reader.frames():
                yield frame
            if reader.is_over:
                return
            if not await reader.ear.listen(news):
                yield _HEARTBEAT


class _Reader:
    """What one reader was told, and what there is to tell."""

    def __init__(self, call: Call, job: Job, subject: Subject, last_event_id: str | None) -> None:
        self.ear = Ear(job, call.gateway.clock)
        self.is_over = False
        self._call = call
        self._subject = subject
        self._mark = parse_event_id(last_event_id)
        self._is_new = last_event_id is None
        self._told_stage: Mapping[str, Any] | None = None
        self._told_progress: Progress | None = None
        self._told_preview: Preview | None = None
        self._told_outputs: set[str] = set()

    async def frames(self) -> list[bytes]:
        """What is new, in the order in which a reader needs it."""
        told: list[bytes] = []
        job = self.ear.job
        if self._is_new:
            self._is_new = False
            shown = await job_model(self._call, job, self._subject)
            told.append(_frame("job", shown))
        if job.is_terminal:
            await self._tell_end(told, job)
        elif job.state is JobState.QUEUED:
            await self._tell_wait(told, job)
        else:
            await self._tell_run(told, job)
        return told

    async def _tell_wait(self, told: list[bytes], job: Job) -> None:
        """The place in the queue, and the replica that wakes."""
        self.ear.rest()
        standing = await standing_of(self._call.gateway, job, self._subject, None)
        stage = {
            "stage": standing.stage.value,
            "position": standing.position,
            "eta_s": standing.eta_s,
            "detail": standing.detail,
        }
        if stage != self._told_stage:
            self._told_stage = stage
            told.append(_frame("stage", stage))

    async def _tell_run(self, told: list[bytes], job: Job) -> None:
        attempt = attempt_at(self._call.gateway, job)
        if attempt is None:
            self.ear.rest()
            return
        if attempt.story is not None:
            await self._tell_story(told, job, attempt.story)
        if not self.ear.may_speak:
            return
        self.ear.rest()
        progress = None if attempt.progress is None else attempt.progress.snapshot()
        if progress is not None and progress != self._told_progress:
            self._told_progress = progress
            told.append(_frame("progress", progress_shown(progress, self._subject)))
        preview = attempt.preview
        if preview is not None and preview is not self._told_preview:
            self._told_preview = preview
            if len(preview.image) <= _MOST_PREVIEW_BYTES:
                told.append(_frame("preview", _preview_json(preview)))

    async def _tell_story(self, told: list[bytes], job: Job, story: Story) -> None:
        entries = story.after(self._mark)
        if not entries:
            return
        has_outputs = any(entry.kind is Kind.OUTPUT for entry in entries)
        assets = await assets_of(self._call, job, self._subject) if has_outputs else ()
        places = {asset.id: (index, asset) for index, asset in enumerate(assets)}
        for entry in entries:
            self._mark = story.began, entry.number
            if (frame := self._entry(entry, event_id(story, entry), places)) is not None:
                told.append(frame)

    def _entry(
        self, entry: Entry, id_: str, places: Mapping[str, tuple[int, Asset]]
    ) -> bytes | None:
        match entry.kind:
            case Kind.STAGE:
                # Who heard the wait as it was is not told of it once more.
                if self._told_stage is not None and Stage(entry.data["stage"]) in _WAITING:
                    return None
                return _frame("stage", {**entry.data, "at": entry.at}, id_)
            case Kind.NODE:
                node = self._subject.node(entry.data["node"])
                shown = {} if node is None else node.model_dump()
                count = {"number": entry.data["number"], "total": entry.data["total"]}
                return _frame("node", {**shown, **count, "at": entry.at}, id_)
            case Kind.OUTPUT:
                found = places.get(entry.data["asset"])
                if found is None:
                    return None  # it has expired
                self._told_outputs.add(found[1].id)
                return _frame(
                    "output", output_model(found[1], found[0], self._subject, self._call.links), id_
                )

    async def _tell_end(self, told: list[bytes], job: Job) -> None:
        """What of the story is left, outputs that are not in it, and how it ended."""
        story = await self._call.gateway.store.calls.story(job.id)
        if story is not None:
            await self._tell_story(told, job, story)
            self._told_outputs |= {
                entry.data["asset"] for entry in story.entries if entry.kind is Kind.OUTPUT
            }
        elif self._mark is None and self._told_stage is None:
            told.append(_frame("stage", {"stage": "queued", "at": job.created_at}))
        for index, asset in enumerate(await assets_of(self._call, job, self._subject)):
            if asset.id not in self._told_outputs:
                model = output_model(asset, index, self._subject, self._call.links)
                told.append(_frame("output", model))
        shown = await job_model(self._call, job, self._subject)
        told.append(_frame("end", shown, END))
        self.is_over = True


def _preview_json(preview: Preview) -> dict[str, Any]:
    metadata = preview.metadata
    return {
        "node": str(metadata.get("display_node_id") or metadata.get("node_id") or ""),
        "content_type": str(metadata.get("image_type") or "image/jpeg"),
        "data_base64": base64.b64encode(preview.image).decode(),
    }


def _frame(name: str, data: BaseModel | Mapping[str, Any], id_: str | None = None) -> bytes:
    text = (
        data.model_dump_json().encode()
        if isinstance(data, BaseModel)
        else msgspec.json.encode(data)
    )
    head = b"" if id_ is None else b"id: " + id_.encode() + b"\n"
    return head + b"event: " + name.encode() + b"\ndata: " + text + b"\n\n"
