"""Follow a job to its end, over lost connections and restarts of the server."""

import time
from collections.abc import Iterator, Mapping

from comfyserve.cli.answers import Job
from comfyserve.cli.client import HEARTBEATS_S, Client
from comfyserve.cli.errors import ServerFailed, TimedOut, Unavailable, Unreachable
from comfyserve.cli.events import JobEnded
from comfyserve.cli.live import View
from comfyserve.cli.story import Story
from comfyserve.clock import Clock

_PATIENCE_S = 60.0
"""How long a server may be away before we give up; the job itself is safe on its disk."""
_RETRY_S = 0.5


class Follower:
    """Shows one job's events on a view. `timeout_s` None waits for ever."""

    def __init__(
        self, client: Client, job_id: str, clock: Clock, *, timeout_s: float | None = None
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._clock = clock
        self._timeout_s = timeout_s
        self._deadline = None if timeout_s is None else clock.monotonic() + timeout_s

    def follow(self, view: View, labels: Mapping[str, str]) -> Job:
        """Return the job in its last state.

        Raises TimedOut at the deadline (the job goes on), Unreachable when the server stays away.
        """
        story = Story(labels)
        lost_at: float | None = None
        while True:
            try:
                for job in self._watch(view, story):
                    lost_at = None
                    if job is not None:
                        return job
                problem: Exception = ServerFailed("the server ended the stream too early")
            except (Unreachable, Unavailable, TimedOut) as error:
                problem = error
            self._check_deadline()
            now = self._clock.monotonic()
            if lost_at is None:
                lost_at = now
                view.note("the connection was lost; the job is safe, trying again")
            elif now - lost_at > _PATIENCE_S:
                raise problem
            time.sleep(_RETRY_S)

    def _watch(self, view: View, story: Story) -> Iterator[Job | None]:
        """Yield None for each sign of life, the job when it has ended."""
        for event in self._client.job_events(self._job_id, self._wait_s):
            if event is None:
                yield None
                continue
            for line in story.take(event, self._clock.monotonic()):
                view.line(line)
            view.update(story.doing)
            yield event.job if isinstance(event, JobEnded) else None

    def _wait_s(self) -> float:
        self._check_deadline()
        if self._deadline is None:
            return HEARTBEATS_S
        return min(HEARTBEATS_S, max(0.001, self._deadline - self._clock.monotonic()))

    def _check_deadline(self) -> None:
        if self._deadline is not None and self._clock.monotonic() >= self._deadline:
            raise TimedOut(
                f"job {self._job_id} did not end within {self._timeout_s:g} s. It goes on: see "
                f"`comfyserve job show {self._job_id}`, or `comfyserve job cancel {self._job_id}`"
            )
