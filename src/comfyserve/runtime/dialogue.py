"""What is said about one job between us and its engine: submit, listen, ask, ingest, pass on."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfyserve.clock import Clock
from comfyserve.domain.events import EngineFrame, EngineMessage, Preview
from comfyserve.domain.job import Job, JobDocuments, JobError
from comfyserve.domain.progress import ProgressTracker
from comfyserve.domain.story import Stage, StoryTeller
from comfyserve.runtime import history
from comfyserve.runtime.bus import Bus
from comfyserve.runtime.comfy import ComfyClient, Framed, Hushed, News, Said, Shown
from comfyserve.runtime.metering import LoadTimer
from comfyserve.runtime.outputs import OutputIngest
from comfyserve.runtime.tasks import TaskScope

_ASK_AFTER_S = 10.0
_ASK_WHEN_DEAF_S = 0.25
# About the connection to the engine, not about the job.
_CONNECTION_NEWS = frozenset({"status", "feature_flags"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the engine says that a prompt ended: refused, or with an entry in its history.

    Neither: it does not run it, and has no result of it.
    """

    rejection: JobError | None = None
    entry: Mapping[str, Any] | None = None
    endings: tuple[Said, ...] = ()


@dataclass(slots=True)
class Dialogue:
    """One prompt on one engine. News come by WebSocket; queue and history are the authority."""

    job: Job
    documents: JobDocuments
    client: ComfyClient
    bus: Bus
    clock: Clock
    ingest: OutputIngest
    timer: LoadTimer
    progress: ProgressTracker
    teller: StoryTeller
    is_resumed: bool = False
    current_node: str | None = None
    preview: Preview | None = None
    submitted: asyncio.Event = field(default_factory=asyncio.Event)
    _is_deaf: bool = False
    _inbox: asyncio.Queue[News | None] = field(default_factory=asyncio.Queue)
    _endings: list[Said] = field(default_factory=list)
    _outputs_told: int = 0

    def ask_soon(self) -> None:
        """Do not rely on news any more: what was ordered may end the prompt without any."""
        self._is_deaf = True
        self._inbox.put_nowait(None)

    def say(self, said: Said) -> None:
        """Tell whoever listens to the job, under the id that its client knows."""
        job = self.job
        data = history.with_prompt_id(said.data, job)
        self.bus.publish(EngineMessage(job.deployment_id, job.id, job.client_id, said.kind, data))

    async def run(self) -> Verdict:
        """Follow the prompt to its end. Raises EngineError when the engine stops answering."""
        client_id = uuid.uuid4().hex
        async with (
            TaskScope(f"news:{self.job.id}") as scope,
            self.client.listen(client_id) as news,
        ):
            scope.spawn(self._pump(news), name="pump")
            if not (self.is_resumed and await self._was_submitted()):
                rejected = await self.client.submit(self._submission(client_id))
                if rejected is not None:
                    return Verdict(rejection=history.read_rejection(rejected))
            self.submitted.set()
            return await self._listen()

    async def _was_submitted(self) -> bool:
        """Whether the engine has heard of it; an earlier server may have died before it sent it."""
        if await self.client.knows(self.job.id):
            return True
        # In this order: a prompt that ends between the two questions is in the history by then.
        return await self.client.history(self.job.id) is not None

    def _submission(self, client_id: str) -> dict[str, Any]:
        documents = self.documents
        body: dict[str, Any] = {
            "prompt": documents.prompt,
            "prompt_id": self.job.id,
            "client_id": client_id,
            "extra_data": {**documents.extra_data, **documents.secrets},
        }
        if documents.partial_execution_targets is not None:
            body["partial_execution_targets"] = list(documents.partial_execution_targets)
        return body

    async def _pump(self, news: AsyncIterator[News]) -> None:
        async for item in news:
            self._inbox.put_nowait(item)

    async def _listen(self) -> Verdict:
        """Take news one by one until they, or an answer, end the prompt."""
        self._is_deaf = self.is_resumed
        while True:
            verdict: Verdict | None = None
            match await self._next():
                case Said() as said:
                    verdict = await self._hear(said)
                case Shown() as shown:
                    self._show(shown)
                case Framed(payload=payload):
                    job = self.job
                    self.bus.publish(EngineFrame(job.deployment_id, job.id, job.client_id, payload))
                case Hushed():
                    self._is_deaf = True
                case None:
                    if not await self.client.knows(self.job.id):
                        verdict = await self._conclude()
            if verdict is not None:
                return verdict

    async def _next(self) -> News | None:
        """The next piece of news; None when it is time to ask."""
        try:
            async with asyncio.timeout(_ASK_WHEN_DEAF_S if self._is_deaf else _ASK_AFTER_S):
                return await self._inbox.get()
        except TimeoutError:
            return None

    def _show(self, shown: Shown) -> None:
        if shown.metadata.get("prompt_id") == self.job.id:
            job = self.job
            metadata = history.with_prompt_id(shown.metadata, job)
            self.preview = Preview(job.deployment_id, job.id, job.client_id, metadata, shown.image)
            self.bus.publish(self.preview)

    async def _hear(self, said: Said) -> Verdict | None:
        """Pass one message on. What ends a job is held back until its end is committed."""
        if said.kind in _CONNECTION_NEWS or said.data.get("prompt_id", self.job.id) != self.job.id:
            return None
        if said.kind in history.ENDINGS:
            if said.kind not in {ending.kind for ending in self._endings}:
                self._endings.append(said)
            return None
        self.progress.hear(said.kind, said.data)
        if said.kind == "executing" and "prompt_id" in said.data:
            node_id = self.current_node = said.data.get("node")
            self.timer.node_began(node_id, self.clock.now())
            if node_id is None:
                return await self._conclude()
            self._tell_node(node_id)
        if said.kind == "executed" and said.data.get("output") is not None:
            output = await self.ingest.take(str(said.data.get("node")), said.data["output"])
            self._tell_outputs()
            said = Said(said.kind, {**said.data, "output": output})
        self.say(said)
        return None

    def _tell_node(self, node_id: str) -> None:
        now, at = self.clock.now(), self.progress.snapshot()
        self.teller.enter(Stage.LOADING if self.timer.loads(node_id) else Stage.RUNNING, now)
        self.teller.begin_node(at.current_node or node_id, at.nodes_done + 1, at.nodes_total, now)

    def _tell_outputs(self) -> None:
        """Note the files that were taken in since the last time."""
        for asset in self.ingest.assets[self._outputs_told :]:
            self.teller.add_output(asset.id, self.clock.now())
            self._outputs_told += 1

    async def _conclude(self) -> Verdict:
        """Read the authority, the history entry, and ingest what was missed."""
        self.teller.enter(Stage.SAVING, self.clock.now())
        entry = await self.client.history(self.job.id)
        if entry is None:
            return Verdict()
        for node_id, output in (entry.get("outputs") or {}).items():
            await self._catch_up(str(node_id), output)
        return Verdict(entry=entry, endings=tuple(self._endings) or history.endings_of(entry))

    async def _catch_up(self, node_id: str, output: Any) -> None:  # noqa: ANN401 - a node may report anything
        if node_id in self.ingest.outputs:
            return
        public = await self.ingest.take(node_id, output)
        self._tell_outputs()
        data = {"node": node_id, "display_node": node_id, "output": public}
        self.say(Said("executed", {**data, "prompt_id": self.job.id}))
