"""A job's story as server-sent events: whole snapshots, and all outputs before the end.

There are no event ids: whoever comes later is told where the job stands, not how it got there.
"""

import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from comfyserve.domain.events import (
    Preview,
)
from comfyserve.domain.job import Job
from comfyserve.domain.progress import Progress
from comfyserve.gateway.door import Call
from comfyserve.gateway.job_facts import attempt_at, queue_position
from comfyserve.gateway.listening import MOST_WAITING, Ear
from comfyserve.gateway.v2.shapes import output_json, progress_json
from comfyserve.runtime.bus import of_job

# Clients give up on a frame of more than 2 MiB; base64 adds a third.
_MOST_PREVIEW_BYTES = 1024 * 1024
_URGENT = frozenset({"executed"})
_HEARTBEAT = b": still here\n\n"


async def event_stream(call: Call, job: Job) -> AsyncIterator[bytes]:
    """Tell where a job stands, then each change, until it ends."""
    bus = call.gateway.bus
    accepts = of_job(job.id)
    with (
        call.streams.counted(),
        bus.subscribe(job.deployment_id, accepts, limit=MOST_WAITING) as news,
    ):
        # Read again after subscribing: what changes from now on is heard.
        story = _Story(call, await call.gateway.store.jobs.get(job.id) or job)
        while True:
            for frame in await story.frames():
                yield frame
            if story.is_over:
                return
            if not await story.ear.listen(news):
                yield _HEARTBEAT


class _Story:
    """What one reader was told, and what there is to tell."""

    def __init__(self, call: Call, job: Job) -> None:
        self.is_over = False
        self.ear = Ear(job, call.gateway.clock, urgent=_URGENT)
        self._call = call
        self._clock = call.gateway.clock
        self._told_status: Mapping[str, Any] | None = None
        self._told_progress: Progress | None = None
        self._told_preview: Preview | None = None
        self._told_outputs: set[str] = set()

    async def frames(self) -> list[bytes]:
        """What is new, in the order in which a reader needs it."""
        told: list[bytes] = []
        if not self.ear.job.is_terminal:
            await self._tell_status(told)
            if self.ear.may_speak:
                self._tell_progress(told)
        if self.ear.has_outputs or self.ear.job.is_terminal:
            await self._tell_outputs(told)
        if self.ear.job.is_terminal:
            await self._tell_status(told)
            self.is_over = True
        return told

    async def _tell_status(self, told: list[bytes]) -> None:
        status: dict[str, Any] = {"status": self.ear.job.state.value}
        position = await queue_position(self._call.gateway, self.ear.job)
        if position is not None:
            status["queue_position"] = position
        if status != self._told_status:
            self._told_status = status
            told.append(_frame("status", status))

    def _tell_progress(self, told: list[bytes]) -> None:
        self.ear.rest()
        attempt = attempt_at(self._call.gateway, self.ear.job)
        if attempt is None:
            return
        progress = None if attempt.progress is None else attempt.progress.snapshot()
        if progress is not None and progress != self._told_progress:
            self._told_progress = progress
            told.append(_frame("progress", progress_json(progress)))
        preview = attempt.preview
        if preview is not None and preview is not self._told_preview:
            self._told_preview = preview
            if len(preview.image) <= _MOST_PREVIEW_BYTES:
                told.append(_frame("preview", _preview_json(preview)))

    async def _tell_outputs(self, told: list[bytes]) -> None:
        self.ear.has_outputs = False
        assets = await self._call.gateway.store.assets.of_job(self.ear.job.id)
        for asset in assets:
            if asset.id not in self._told_outputs and asset.is_live(self._clock.now()):
                self._told_outputs.add(asset.id)
                told.append(_frame("output", output_json(asset, self._call.links)))


def _preview_json(preview: Preview) -> dict[str, Any]:
    metadata = preview.metadata
    node_id = metadata.get("display_node_id") or metadata.get("node_id") or ""
    return {
        "node_id": str(node_id),
        "content_type": str(metadata.get("image_type") or "image/jpeg"),
        "data_base64": base64.b64encode(preview.image).decode(),
    }


def _frame(name: str, data: Mapping[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
