"""What one job took: the time in which models load, and its receipt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfyserve.domain.job import Job
from comfyserve.domain.usage import JobTimes, Receipt, make_receipt
from comfyserve.runtime.supervisor import Supervisor
from comfyserve.store import Store
from comfyserve.workflow.catalog import NodeCatalog

_MODEL_TYPES = frozenset(
    {"MODEL", "CLIP", "VAE", "CONTROL_NET", "CLIP_VISION", "STYLE_MODEL", "UPSCALE_MODEL"}
)


@dataclass(slots=True)
class LoadTimer:
    """Adds up the time before the first node and in nodes that load models."""

    catalog: NodeCatalog
    prompt: Mapping[str, Any]
    since: float | None
    total_s: float = 0.0

    def node_began(self, node_id: str | None, now: float) -> None:
        """A node begins (None: the run is over); the one before it has ended."""
        if self.since is not None:
            self.total_s += now - self.since
        self.since = now if node_id is not None and self.loads(node_id) else None

    def loads(self, node_id: str) -> bool:
        """Whether a node loads models."""
        node = self.prompt.get(node_id)
        found = self.catalog.get(str(node.get("class_type"))) if isinstance(node, dict) else None
        return found is not None and any(kind in _MODEL_TYPES for kind in found.output_types)


async def make_job_receipt(
    job: Job, supervisor: Supervisor, store: Store, *, now: float, load_s: float
) -> Receipt:
    """The receipt of a job that ends now; earlier attempts are read from the ledger."""
    replica = supervisor.replica
    earlier = await store.usage.by_job(job.id) if job.attempts > 1 else ()
    is_woken_for_it = replica.ready_at is not None and replica.ready_at > job.created_at
    return make_receipt(
        JobTimes(
            created_at=job.created_at,
            finished_at=now,
            started_at=job.started_at,
            wake_began_at=replica.created_at if is_woken_for_it else None,
            wake_ended_at=replica.ready_at,
            load_s=load_s,
            earlier_attempts_s=sum(s.seconds(now) for s in earlier if s.ended_at is not None),
        ),
        attempts=job.attempts,
        replica_id=replica.id,
        gpu=replica.gpu,
        price_per_hour=supervisor.price_per_hour,
    )
