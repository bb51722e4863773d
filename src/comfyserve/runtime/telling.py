"""Tell webhooks how far a job is: coarsely, and only where somebody wants to know."""

from comfyserve.domain.events import EngineMessage
from comfyserve.domain.webhook import WebhookEvent
from comfyserve.runtime.bus import of_job
from comfyserve.runtime.dialogue import Dialogue
from comfyserve.runtime.supervisor import Parts

_PARTS = 10


async def tell_progress(parts: Parts, dialogue: Dialogue) -> None:
    """Put a message into the outbox for each tenth that the job has come further."""
    job, outbox = dialogue.job, parts.store.outbox
    if not await outbox.wants(job, WebhookEvent.PROGRESS):
        return
    told = 0
    with parts.bus.subscribe(job.deployment_id, of_job(job.id), limit=64) as news:
        while True:
            progress = dialogue.progress.snapshot()
            part = int(progress.value * _PARTS)
            if told < part < _PARTS:
                told = part
                await outbox.record_progress(job, progress, parts.clock.now())
            while not isinstance(await news.get(), EngineMessage):
                continue
