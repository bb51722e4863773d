"""Run one job on one slot: submit, follow, ingest, commit once, then tell."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import msgspec
import structlog

from comfyserve.domain.errors import EngineError
from comfyserve.domain.events import EngineFrame, EngineMessage, JobChanged, Preview, QueueChanged
from comfyserve.domain.job import Job, JobDocuments, JobError, JobEventKind
from comfyserve.domain.progress import ProgressTracker
from comfyserve.domain.replica import Cause
from comfyserve.runtime import history
from comfyserve.runtime.comfy import Framed, Hushed, News, Said, Shown
from comfyserve.runtime.metering import LoadTimer, make_job_receipt
from comfyserve.runtime.outputs import OutputIngest
from comfyserve.runtime.supervisor import Parts, Supervisor
from comfyserve.runtime.tasks import TaskScope
from comfyserve.workflow.catalog import NodeCatalog

log = structlog.get_logger()

_ASK_AFTER_S = 10.0
_ASK_WHEN_DEAF_S = 0.25
_LOST_VERDICT_S = 3.0
# About the connection to the engine, not about the job.
_CONNECTION_NEWS = frozenset({"status", "feature_flags"})


class Order(Enum):
    """What others tell a running attempt."""

    CANCEL = auto()
    TIME_OUT = auto()
    GIVE_UP = auto()
    REPLICA_LOST = auto()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: the event for the job's table, and what is shown of it."""

    event: JobEventKind
    error: JobError | None = None
    endings: tuple[Said, ...] = ()
    entry: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Attempt:
    """One attempt at a job, from the claim to the commit. Orders arrive through `order`."""

    job: Job
    supervisor: Supervisor
    parts: Parts
    catalog: NodeCatalog
    owner: str
    is_resumed: bool = False
    order_given: Order | None = None
    current_node: str | None = None
    progress: ProgressTracker | None = None
    preview: Preview | None = None
    _inbox: asyncio.Queue[News | Order] = field(default_factory=asyncio.Queue)
    _endings: list[Said] = field(default_factory=list)

    def order(self, order: Order) -> None:
        """Tell the attempt something; it reacts between two messages."""
        self._inbox.put_nowait(order)

    async def run(self) -> Job | None:
        """Carry the attempt out and commit its end; None when another owner took the job over."""
        documents = await self.parts.store.jobs.documents(self.job.id)
        self.progress = ProgressTracker(documents.prompt, documents.outputs_to_execute)
        clock, settings = self.parts.clock, self.parts.settings
        ingest = OutputIngest(
            self.job, self.supervisor.client, self.parts.store, clock, settings.temp_expiry_s
        )
        timer = LoadTimer(self.catalog, documents.prompt, clock.now())
        self.parts.bus.publish(JobChanged(self.job))
        try:
            outcome = await self._follow(documents, ingest, timer)
        except EngineError as error:
            log.warning(
                "An engine stopped answering during a job.",
                event_key="engine_error",
                job=self.job.id,
                replica=self.supervisor.id,
                error=error.message,
            )
            outcome = await self._lost(error)
        return await self._finish(outcome, documents, ingest, timer)

    async def _follow(
        self, documents: JobDocuments, ingest: OutputIngest, timer: LoadTimer
    ) -> Outcome:
        client_id = uuid.uuid4().hex
        client = self.supervisor.client
        async with TaskScope(f"job:{self.job.id}") as scope, client.listen(client_id) as news:
            scope.spawn(self._pump(news), name="news")
            scope.spawn(self._watch_replica(), name="replica")
            scope.spawn(self._watch_clock(), name="clock")
            if not self.is_resumed:
                rejected = await client.submit(self._submission(documents, client_id))
                if rejected is not None:
                    return Outcome(JobEventKind.FAILED, history.read_rejection(rejected))
            return await self._react(ingest, timer)

    def _submission(self, documents: JobDocuments, client_id: str) -> dict[str, Any]:
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

    async def _watch_replica(self) -> None:
        await self.supervisor.lost.wait()
        self.order(Order.REPLICA_LOST)

    async def _watch_clock(self) -> None:
        began = self.job.started_at or self.parts.clock.now()
        job_s = self.supervisor.terms.timeouts.job_s
        await asyncio.sleep(max(0.0, job_s - (self.parts.clock.now() - began)))
        self.order(Order.TIME_OUT)

    async def _react(self, ingest: OutputIngest, timer: LoadTimer) -> Outcome:
        """Take messages and orders one by one until one of them ends the attempt."""
        ask_after = _ASK_WHEN_DEAF_S if self.is_resumed else _ASK_AFTER_S
        async with TaskScope(f"orders:{self.job.id}") as scope:
            while True:
                item = await self._next(ask_after)
                outcome: Outcome | None = None
                match item:
                    case Order():
                        outcome = await self._obey(item, scope)
                    case Shown():
                        self._show(item)
                    case Framed():
                        self._pass_on(item)
                    case Said():
                        outcome = await self._hear(item, ingest, timer)
                    case Hushed():
                        ask_after = _ASK_WHEN_DEAF_S
                    case None:
                        if not await self.supervisor.client.knows(self.job.id):
                            outcome = await self._conclude(ingest)
                if outcome is not None:
                    return outcome

    async def _next(self, patience_s: float) -> News | Order | None:
        """The next message or order; None when there was none for so long."""
        try:
            async with asyncio.timeout(patience_s):
                return await self._inbox.get()
        except TimeoutError:
            return None

    async def _obey(self, order: Order, scope: TaskScope) -> Outcome | None:
        """Interrupt; if the engine does not stop in time, give up on its replica."""
        match order:
            case Order.REPLICA_LOST:
                return await self._lost(None)
            case Order.GIVE_UP:
                return self._gave_up()
            case Order.CANCEL | Order.TIME_OUT if self.order_given is None:
                self.order_given = order
                scope.spawn(self._interrupt(), name="interrupt")
        return None

    async def _interrupt(self) -> None:
        try:
            await self.supervisor.client.interrupt(self.job.id)
        except EngineError as error:
            log.info("Interrupting failed.", event_key="interrupt_failed", error=error.message)
        await asyncio.sleep(self.supervisor.terms.timeouts.stop_s)
        self.order(Order.GIVE_UP)

    def _show(self, shown: Shown) -> None:
        if shown.metadata.get("prompt_id") == self.job.id:
            job = self.job
            metadata = history.with_prompt_id(shown.metadata, job)
            self.preview = Preview(job.deployment_id, job.id, job.client_id, metadata, shown.image)
            self.parts.bus.publish(self.preview)

    def _pass_on(self, framed: Framed) -> None:
        job = self.job
        self.parts.bus.publish(
            EngineFrame(job.deployment_id, job.id, job.client_id, framed.payload)
        )

    async def _hear(self, said: Said, ingest: OutputIngest, timer: LoadTimer) -> Outcome | None:
        """Pass one message on. What ends a job is held back until its end is committed."""
        if said.kind in _CONNECTION_NEWS or said.data.get("prompt_id", self.job.id) != self.job.id:
            return None
        if said.kind in history.ENDINGS:
            self._endings.append(said)
            return None
        if self.progress is not None:
            self.progress.hear(said.kind, said.data)
        if said.kind == "executing" and "prompt_id" in said.data:
            node_id = self.current_node = said.data.get("node")
            timer.node_began(node_id, self.parts.clock.now())
            if node_id is None:
                return await self._conclude(ingest)
        if said.kind == "executed" and said.data.get("output") is not None:
            output = await ingest.take(str(said.data.get("node")), said.data["output"])
            said = Said(said.kind, {**said.data, "output": output})
        self._say(said)
        return None

    def _say(self, said: Said) -> None:
        job = self.job
        data = history.with_prompt_id(said.data, job)
        self.parts.bus.publish(
            EngineMessage(job.deployment_id, job.id, job.client_id, said.kind, data)
        )

    async def _conclude(self, ingest: OutputIngest) -> Outcome:
        """Read the authority, the history entry, and ingest what was missed."""
        entry = await self.supervisor.client.history(self.job.id)
        if entry is None:
            if self.order_given is not None:
                return self._gave_up()
            return await self._lost(
                EngineError("the engine no longer knows the prompt and has no result of it")
            )
        for node_id, output in (entry.get("outputs") or {}).items():
            await self._catch_up(str(node_id), output, ingest)
        endings = tuple(self._endings) or history.endings_of(entry)
        kinds = {said.kind for said in endings}
        if history.is_success(entry):
            return Outcome(JobEventKind.SUCCEEDED, None, endings, entry)
        if "execution_interrupted" in kinds:
            return self._interrupted(endings, entry)
        failure = next((said for said in endings if said.kind == "execution_error"), None)
        data = {} if failure is None else failure.data
        return Outcome(JobEventKind.FAILED, history.read_error(data), endings, entry)

    async def _catch_up(self, node_id: str, output: Any, ingest: OutputIngest) -> None:  # noqa: ANN401 - a node may report anything
        if node_id in ingest.outputs:
            return
        public = await ingest.take(node_id, output)
        data = {"node": node_id, "display_node": node_id, "output": public}
        self._say(Said("executed", {**data, "prompt_id": self.job.id}))

    def _interrupted(self, endings: tuple[Said, ...], entry: Mapping[str, Any] | None) -> Outcome:
        if self.order_given is Order.TIME_OUT:
            self.supervisor.stop(Cause.JOB_TIMEOUT)
            return Outcome(JobEventKind.FAILED, self._timeout_error(), endings, entry)
        return Outcome(JobEventKind.INTERRUPTED, None, endings, entry)

    def _gave_up(self) -> Outcome:
        """It was told to stop and did not: the replica goes, the verdict stands."""
        self.supervisor.stop(Cause.JOB_TIMEOUT)
        return self._interrupted((), None)

    def _timeout_error(self) -> JobError:
        job_s = self.supervisor.terms.timeouts.job_s
        return JobError(
            "job_timeout",
            f"the job ran longer than its timeout of {job_s:g} s and was stopped; "
            "raise --job-timeout if it needs more",
        )

    async def _lost(self, error: EngineError | None) -> Outcome:
        """The replica is gone or deaf: wait shortly for its end, collect the evidence."""
        supervisor = self.supervisor
        try:
            async with asyncio.timeout(_LOST_VERDICT_S):
                await supervisor.lost.wait()
        except TimeoutError:
            supervisor.stop(Cause.UNRESPONSIVE)
        if self.order_given is not None:
            return self._interrupted((), None)
        replica = supervisor.replica
        what = replica.message or (error.message if error else "its process ended")
        code = "out_of_memory" if replica.cause is Cause.OOM else "replica_lost"
        return Outcome(
            JobEventKind.LOST,
            JobError(
                code,
                f"the replica was lost while it ran this job ({replica.cause}): {what}",
                exit_code=replica.exit_code,
                log_tail=await supervisor.log_tail(),
            ),
        )

    async def _finish(
        self, outcome: Outcome, documents: JobDocuments, ingest: OutputIngest, timer: LoadTimer
    ) -> Job | None:
        job, now = self.job, self.parts.clock.now()
        endings = outcome.endings or self._endings_of(outcome, now)
        if outcome.entry is not None:
            outputs = {**(outcome.entry.get("outputs") or {}), **ingest.outputs}
            entry = history.finished_entry(outcome.entry, job, documents, outputs)
        else:
            messages = [(said.kind, said.data) for said in endings]
            entry = history.failed_entry(job, documents, ingest.outputs, messages)
        finished = await self.parts.store.jobs.finish(
            job.id,
            owner=self.owner,
            attempt=job.attempts,
            event=outcome.event,
            now=now,
            error=outcome.error,
            history=entry,
            receipt=await make_job_receipt(
                job, self.supervisor, self.parts.store, now=now, load_s=timer.total_s
            ),
            summary=msgspec.json.encode(history.summarize(ingest.outputs)),
        )
        if finished is not None:
            await self._announce(finished, endings)
        return finished

    async def _announce(self, finished: Job, endings: tuple[Said, ...]) -> None:
        """Tell the end in ComfyUI's order: the verdict, the shorter queue, nothing executing."""
        bus = self.parts.bus
        if finished.is_terminal:
            for said in endings:
                self._say(said)
            counts = await self.parts.store.jobs.counts(finished.deployment_id)
            bus.publish(QueueChanged(finished.deployment_id, counts.queued + counts.active))
            self._say(Said("executing", {"node": None, "prompt_id": self.job.id}))
        bus.publish(JobChanged(finished))

    def _endings_of(self, outcome: Outcome, now: float) -> tuple[Said, ...]:
        """The last message, in ComfyUI's shape, for an end that the engine did not announce."""
        if outcome.event is JobEventKind.INTERRUPTED:
            return (Said("execution_interrupted", history.interrupted_message(self.job, now)),)
        if outcome.error is not None:
            data = history.error_message(self.job, outcome.error, now)
            return (Said("execution_error", data),)
        return ()
