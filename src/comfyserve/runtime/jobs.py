"""Run one job on one slot: have it done, judge how that ended, commit once, then tell."""

import asyncio
from dataclasses import dataclass, field, replace
from enum import Enum, auto

import msgspec
import structlog

from comfyserve.domain.errors import EngineError, StorageFull
from comfyserve.domain.events import JobChanged, Preview, QueueChanged
from comfyserve.domain.job import Job, JobError, JobEventKind
from comfyserve.domain.progress import ProgressTracker
from comfyserve.domain.replica import Cause
from comfyserve.domain.story import Stage, Story, StoryTeller
from comfyserve.runtime import history
from comfyserve.runtime.comfy import Said
from comfyserve.runtime.dialogue import Dialogue, Verdict
from comfyserve.runtime.metering import LoadTimer, make_job_receipt
from comfyserve.runtime.outputs import OutputIngest
from comfyserve.runtime.supervisor import Parts, Supervisor
from comfyserve.runtime.tasks import TaskScope
from comfyserve.runtime.telling import tell_progress
from comfyserve.workflow.catalog import NodeCatalog

log = structlog.get_logger()

_LOST_VERDICT_S = 3.0
_PAUSE_WHEN_FULL_S = 1.0
_NO_VERDICT = Verdict()


class Order(Enum):
    """What others tell a running attempt."""

    CANCEL = auto()
    TIME_OUT = auto()
    GIVE_UP = auto()
    REPLICA_LOST = auto()
    CONCLUDE = auto()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: the event for the job's table, and what is shown of it."""

    event: JobEventKind
    error: JobError | None = None
    verdict: Verdict = _NO_VERDICT


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
    _dialogue: Dialogue | None = None
    _orders: asyncio.Queue[Order] = field(default_factory=asyncio.Queue)

    @property
    def current_node(self) -> str | None:
        """The node that runs just now."""
        return self._dialogue.current_node if self._dialogue else None

    @property
    def progress(self) -> ProgressTracker | None:
        """How far it is; None before it has begun."""
        return self._dialogue.progress if self._dialogue else None

    @property
    def story(self) -> Story | None:
        """What it went through so far; None before it has begun."""
        return self._dialogue.teller.story if self._dialogue else None

    @property
    def stage(self) -> Stage:
        """Where it is."""
        return self._dialogue.teller.stage if self._dialogue else Stage.LOADING

    @property
    def preview(self) -> Preview | None:
        """The last preview picture."""
        return self._dialogue.preview if self._dialogue else None

    def order(self, order: Order) -> None:
        """Tell the attempt something; it reacts at once, whatever it waits for."""
        self._orders.put_nowait(order)

    async def run(self) -> Job | None:
        """Carry the attempt out and commit its end; None when another owner took the job over.

        Whatever goes wrong inside, the job does not stay behind as running.
        """
        self.parts.bus.publish(JobChanged(self.job))
        try:
            dialogue = self._dialogue = await self._begin()
            return await self._finish(await self._follow(dialogue), dialogue)
        except Exception:
            log.exception(
                "An attempt failed inside the server.",
                event_key="attempt_died",
                job=self.job.id,
                replica=self.supervisor.id,
            )
        self.supervisor.stop(Cause.UNRESPONSIVE)
        return await self._abandon()

    async def _begin(self) -> Dialogue:
        job, client, parts = self.job, self.supervisor.client, self.parts
        store, clock, settings = parts.store, parts.clock, parts.settings
        documents = await store.jobs.documents(job.id)
        earlier = await store.assets.of_job(job.id) if self.is_resumed else ()
        return Dialogue(
            job=job,
            documents=documents,
            client=client,
            bus=parts.bus,
            clock=clock,
            ingest=OutputIngest(job, client, store, clock, settings.temp_expiry_s, earlier),
            timer=LoadTimer(self.catalog, documents.prompt, clock.now()),
            progress=ProgressTracker(documents.prompt, documents.outputs_to_execute),
            teller=self._begin_story(clock.now()),
            is_resumed=self.is_resumed,
        )

    def _begin_story(self, now: float) -> StoryTeller:
        """The story up to here: the wait in the queue, and the replica that was woken for it."""
        job, replica = self.job, self.supervisor.replica
        teller = StoryTeller(began=int(now * 1000))
        teller.enter(Stage.QUEUED, job.created_at)
        if replica.created_at > job.created_at:
            teller.enter(Stage.STARTING, replica.created_at)
        teller.enter(Stage.LOADING, job.started_at or now)
        return teller

    async def _follow(self, dialogue: Dialogue) -> Outcome:
        """Let the dialogue run its course; an order cuts in wherever it is."""
        async with TaskScope(f"job:{self.job.id}") as scope:
            work = scope.spawn(self._work(dialogue), name="work")
            work.add_done_callback(lambda _: self.order(Order.CONCLUDE))
            scope.spawn(self._watch_replica(), name="replica")
            scope.spawn(self._watch_clock(), name="clock")
            scope.spawn(tell_progress(self.parts, dialogue), name="progress")
            while True:
                match await self._orders.get():
                    case Order.CONCLUDE:
                        return work.result()
                    case Order.REPLICA_LOST:
                        return await self._lost(None)
                    case Order.GIVE_UP:
                        self.supervisor.stop(Cause.JOB_TIMEOUT)
                        return self._interrupted(_NO_VERDICT)
                    case Order.CANCEL | Order.TIME_OUT as order:
                        if self.order_given is None:
                            self.order_given = order
                            scope.spawn(self._interrupt(dialogue), name="interrupt")
                            scope.spawn(self._lose_patience(), name="patience")

    async def _work(self, dialogue: Dialogue) -> Outcome:
        try:
            return await self._judge(await dialogue.run())
        except EngineError as error:
            log.warning(
                "An engine stopped answering during a job.",
                event_key="engine_error",
                job=self.job.id,
                replica=self.supervisor.id,
                error=error.message,
            )
            return await self._lost(error)

    async def _watch_replica(self) -> None:
        await self.supervisor.lost.wait()
        self.order(Order.REPLICA_LOST)

    async def _watch_clock(self) -> None:
        began = self.job.started_at or self.parts.clock.now()
        job_s = self.supervisor.terms.timeouts.job_s
        await asyncio.sleep(max(0.0, job_s - (self.parts.clock.now() - began)))
        self.order(Order.TIME_OUT)

    async def _interrupt(self, dialogue: Dialogue) -> None:
        await dialogue.submitted.wait()
        try:
            await self.supervisor.client.interrupt(self.job.id)
        except EngineError as error:
            log.info("Interrupting failed.", event_key="interrupt_failed", error=error.message)
        dialogue.ask_soon()

    async def _lose_patience(self) -> None:
        """An engine that does not stop in time loses its replica."""
        await asyncio.sleep(self.supervisor.terms.timeouts.stop_s)
        self.order(Order.GIVE_UP)

    async def _judge(self, verdict: Verdict) -> Outcome:
        """What the engine's verdict means for the job, by what it was told to do."""
        if verdict.rejection is not None:
            return Outcome(JobEventKind.FAILED, verdict.rejection)
        kinds = {said.kind: said for said in verdict.endings}
        if verdict.entry is None:
            if self.order_given is not None:
                return self._interrupted(verdict)
            return await self._lost(
                EngineError("the engine no longer knows the prompt and has no result of it")
            )
        if history.is_success(verdict.entry):
            return Outcome(JobEventKind.SUCCEEDED, None, verdict)
        if "execution_interrupted" in kinds:
            return self._interrupted(verdict)
        verdict = await self._discreet(verdict)
        failure = next((said for said in verdict.endings if said.kind == "execution_error"), None)
        error = history.read_error({} if failure is None else failure.data)
        return Outcome(JobEventKind.FAILED, error, verdict)

    async def _discreet(self, verdict: Verdict) -> Verdict:
        """What went wrong, without secrets: an engine quotes URLs and values in its errors."""
        mask = await self.parts.store.secrets.mask()
        entry = dict(verdict.entry or {})
        endings = tuple(Said(said.kind, mask.document(said.data)) for said in verdict.endings)
        return replace(
            verdict, entry={**entry, "status": mask.document(entry.get("status"))}, endings=endings
        )

    def _interrupted(self, verdict: Verdict) -> Outcome:
        if self.order_given is Order.TIME_OUT:
            self.supervisor.stop(Cause.JOB_TIMEOUT)
            return Outcome(JobEventKind.FAILED, self._timeout_error(), verdict)
        return Outcome(JobEventKind.INTERRUPTED, None, verdict)

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
            return self._interrupted(_NO_VERDICT)
        replica = supervisor.replica
        what = supervisor.message or (error.message if error else "its process ended")
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

    async def _finish(self, outcome: Outcome, dialogue: Dialogue) -> Job | None:
        job, now, ingest = self.job, self.parts.clock.now(), dialogue.ingest
        own = outcome.verdict.entry
        endings = outcome.verdict.endings or self._endings_of(outcome, now)
        if own is not None:
            outputs = {**(own.get("outputs") or {}), **ingest.outputs}
            entry = history.finished_entry(own, job, dialogue.documents, outputs)
        else:
            messages = [(said.kind, said.data) for said in endings]
            entry = history.failed_entry(job, dialogue.documents, ingest.outputs, messages)
        finished = await self.parts.store.jobs.finish(
            job.id,
            owner=self.owner,
            attempt=job.attempts,
            event=outcome.event,
            now=now,
            error=outcome.error,
            history=entry,
            receipt=await make_job_receipt(
                job, self.supervisor, self.parts.store, now=now, load_s=dialogue.timer.total_s
            ),
            summary=msgspec.json.encode(history.summarize(ingest.outputs)),
            story=dialogue.teller.story,
        )
        if finished is not None:
            await self._announce(finished, endings, dialogue)
        return finished

    async def _announce(self, finished: Job, endings: tuple[Said, ...], dialogue: Dialogue) -> None:
        """Tell the end in ComfyUI's order: the verdict, the shorter queue, nothing executing."""
        bus = self.parts.bus
        if finished.is_terminal:
            for said in endings:
                dialogue.say(said)
            counts = await self.parts.store.jobs.counts(finished.deployment_id)
            bus.publish(QueueChanged(finished.deployment_id, counts.queued + counts.active))
            dialogue.say(Said("executing", {"node": None, "prompt_id": self.job.id}))
        bus.publish(JobChanged(finished))

    async def _abandon(self) -> Job | None:
        """Give the attempt up as lost; while the disk is full, that waits."""
        while True:
            try:
                return await self._write_off()
            except StorageFull:
                await asyncio.sleep(_PAUSE_WHEN_FULL_S)

    async def _write_off(self) -> Job | None:
        job, jobs, now = self.job, self.parts.store.jobs, self.parts.clock.now()
        error = JobError("internal_error", "the server could not see this job through; see its log")
        failed = replace(job, error=error, finished_at=now)
        finished = await jobs.finish(
            job.id,
            owner=self.owner,
            attempt=job.attempts,
            event=JobEventKind.LOST,
            now=now,
            error=error,
            history=history.of_failed_wait(failed, await jobs.documents(job.id)),
        )
        if finished is not None:
            self.parts.bus.publish(JobChanged(finished))
        return finished

    def _endings_of(self, outcome: Outcome, now: float) -> tuple[Said, ...]:
        """The last message, in ComfyUI's shape, for an end that the engine did not announce."""
        if outcome.event is JobEventKind.INTERRUPTED:
            return (Said("execution_interrupted", history.interrupted_message(self.job, now)),)
        if outcome.error is not None:
            data = history.error_message(self.job, outcome.error, now)
            return (Said("execution_error", data),)
        return ()
