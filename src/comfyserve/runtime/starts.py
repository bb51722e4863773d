"""How starting replicas of one deployment has gone lately: back off, and when to give up hope."""

import structlog

from comfyserve.domain.errors import ComfyserveError, EngineFailure, StartFailed
from comfyserve.domain.replica import Cause
from comfyserve.domain.scaling import backoff_s
from comfyserve.runtime.supervisor import Supervisor

log = structlog.get_logger()

_ON_PURPOSE = frozenset({Cause.STOPPED_BY_USER, Cause.SHUTDOWN, Cause.UPDATED})


class Starts:
    """Failed starts in a row, and when the next one may be tried."""

    def __init__(self, most_failures: int) -> None:
        self.not_before = 0.0
        self.last_error: EngineFailure | None = None
        self._most_failures = most_failures
        self._failures = 0

    def succeeded(self) -> None:
        """One became ready, or the deployment is another now: begin anew."""
        self.not_before, self.last_error, self._failures = 0.0, None, 0

    async def failed(self, supervisor: Supervisor, now: float) -> EngineFailure | None:
        """One did not become ready; the error if who waits is to be told that there is no hope."""
        replica = supervisor.replica
        if replica.cause in _ON_PURPOSE:
            return None
        error = await supervisor.failure()
        return self._count(error, now, replica=replica.id, cause=str(replica.cause))

    def refused(self, reason: ComfyserveError, now: float) -> EngineFailure | None:
        """One could not even be launched: what its spec names is not there any more."""
        return self._count(StartFailed(reason.message, code=reason.code), now, cause=reason.code)

    def _count(self, error: EngineFailure, now: float, **facts: str) -> EngineFailure | None:
        self._failures += 1
        self.not_before = now + backoff_s(self._failures)
        self.last_error = error
        log.warning(
            "A replica did not become ready.",
            event_key="start_failed",
            failures=self._failures,
            error=error.message,
            **facts,
        )
        if self._failures < self._most_failures:
            return None
        self._failures = 0
        return error
