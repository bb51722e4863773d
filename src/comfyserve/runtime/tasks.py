"""The only module that starts tasks: each has a name, an owner, and a death that is noticed."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")

_PAUSE_AFTER_DEATH_S = 1.0


class TaskScope:
    """Owns tasks. Leaving the scope cancels what still runs and waits for it.

    A task that dies of an exception is logged with its name; it never takes its siblings along,
    because one deployment's defect must not stop another's jobs.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def spawn(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Start `work` as a task of this scope."""
        if self._is_closed:
            work.close()
            raise RuntimeError(f"scope {self._name} is closed; cannot start {name}")
        task = asyncio.create_task(work, name=f"{self._name}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._settle)
        return task

    def keep(self, loop: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> None:
        """Keep an endless `loop` going: one that dies of an exception is begun anew, after a pause."""
        self.spawn(self._keep(loop, name), name=name)

    async def _keep(self, loop: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        while True:
            try:
                return await loop()
            except Exception:
                log.exception("A loop died.", event_key="loop_died", task=f"{self._name}:{name}")
            await asyncio.sleep(_PAUSE_AFTER_DEATH_S)

    async def aclose(self) -> None:
        """Cancel every task and wait until all have ended. Twice is fine."""
        self._is_closed = True
        current = asyncio.current_task()
        while pending := [task for task in self._tasks if task is not current]:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending)

    def _settle(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            log.error("A task died.", event_key="task_died", task=task.get_name(), exc_info=error)
