"""Which replica holds which GPU of this host."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from comfyserve.runtime.gpus import Gpu, is_type
from comfyserve.runtime.launchers.base import Capacity, LaunchSpec, PendingReason


@dataclass(frozen=True, slots=True)
class NoRoom:
    """Why a replica cannot start now."""

    reason: PendingReason
    message: str


@dataclass(slots=True)
class GpuLedger:
    """The GPUs of a host and who holds them, by UUID."""

    gpus: Sequence[Gpu]
    _holders: dict[str, str] = field(default_factory=dict)

    def take(self, replica_id: str, spec: LaunchSpec) -> tuple[str, ...] | NoRoom:
        """Give the replica what its spec asks for, or say why that cannot be."""
        if spec.gpus == 0:
            return ()
        fitting = [gpu for gpu in self.gpus if is_type(gpu, spec.gpu_type)]
        if len(fitting) < spec.gpus:
            return NoRoom(PendingReason.INFEASIBLE, f"{_wish(spec)}; {self._what_there_is()}")
        free = [gpu for gpu in fitting if gpu.uuid not in self._holders]
        if len(free) < spec.gpus:
            return NoRoom(
                PendingReason.NO_CAPACITY,
                f"{_wish(spec)}; {len(free)} of {len(fitting)} free on this host",
            )
        taken = tuple(gpu.uuid for gpu in free[: spec.gpus])
        self.hold(replica_id, taken)
        return taken

    def hold(self, replica_id: str, uuids: Sequence[str]) -> None:
        """Note that a replica holds these GPUs."""
        self._holders.update(dict.fromkeys(uuids, replica_id))

    def release(self, replica_id: str) -> None:
        """Note that a replica holds nothing any more."""
        self._holders = {gpu: who for gpu, who in self._holders.items() if who != replica_id}

    def capacity(self) -> list[Capacity]:
        """Return totals by type."""
        types = dict.fromkeys(gpu.type for gpu in self.gpus)
        return [self._capacity_of(gpu_type) for gpu_type in types]

    def _capacity_of(self, gpu_type: str) -> Capacity:
        same = [gpu for gpu in self.gpus if gpu.type == gpu_type]
        free = sum(gpu.uuid not in self._holders for gpu in same)
        memory_bytes = min(gpu.memory_bytes for gpu in same)
        return Capacity(gpu_type, total=len(same), free=free, memory_bytes=memory_bytes)

    def _what_there_is(self) -> str:
        if not self.gpus:
            return "this host has no GPU"
        return "this host has " + ", ".join(
            f"{row.total} x {row.gpu_type}" for row in self.capacity()
        )


def _wish(spec: LaunchSpec) -> str:
    return f"asked for {spec.gpus} x {spec.gpu_type or 'any GPU'}"
