"""What a fleet asks of the runtime around it."""

from collections.abc import Callable
from typing import Protocol

from comfyserve.domain.deployment import Deployment
from comfyserve.domain.replica import Cause
from comfyserve.runtime.snapshot import Snapshot
from comfyserve.runtime.supervisor import Supervisor


class Host(Protocol):
    """What a fleet asks of the runtime around it."""

    @property
    def owner(self) -> str:
        """The id under which jobs are claimed."""
        ...

    async def new_supervisor(
        self, deployment: Deployment, cause: Cause, on_change: Callable[[Supervisor], None]
    ) -> Supervisor:
        """A supervisor for a replica that does not exist yet."""
        ...

    async def snapshot(self, digest: str) -> Snapshot:
        """The recorded answers of a revision."""
        ...

    def relieve(self, needy: str) -> bool:
        """Ask other deployments to give up an idle replica; whether one will."""
        ...

    @property
    def lease_s(self) -> float:
        """How long a claim lasts without being renewed."""
        ...
