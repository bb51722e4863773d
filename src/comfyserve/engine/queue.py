"""The waiting line: prompts by number, and the one that runs. Shared by the server and the worker."""

import heapq
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from comfyserve.engine.history import Entry, History, Status

Json: TypeAlias = Any
"""Anything that came from, or goes to, JSON."""


@dataclass(frozen=True, slots=True)
class QueueItem:
    """One accepted prompt."""

    number: float
    """Lower runs earlier."""
    prompt_id: str
    prompt: dict[str, Any]
    """Validated, its values coerced."""
    extra_data: dict[str, Any]
    outputs: tuple[str, ...]
    """The output nodes to run."""
    secrets: dict[str, Any] = field(default_factory=dict)
    """What must not be seen in `/queue` and `/history`."""

    @property
    def client_id(self) -> str | None:
        """Whose socket gets the messages."""
        return self.extra_data.get("client_id")

    def to_wire(self) -> list[Json]:
        """Return the five-element list of `/queue` and `/history`."""
        return [self.number, self.prompt_id, self.prompt, self.extra_data, list(self.outputs)]


class PromptQueue:
    """Prompts that wait and the one that runs, with the history of those that ran.

    Every change is told to `on_change`, on the thread that made it.
    """

    def __init__(self, history: History, on_change: Callable[[], None]) -> None:
        self.history = history
        self._on_change = on_change
        self._changed = threading.Condition(threading.RLock())
        self._waiting: list[tuple[float, str, int, QueueItem]] = []
        self._running: QueueItem | None = None
        self._sequence = 0
        self._interrupted = threading.Event()
        self._wants_free = False

    @property
    def remaining(self) -> int:
        """How many prompts wait or run."""
        with self._changed:
            return len(self._waiting) + (self._running is not None)

    def put(self, item: QueueItem) -> None:
        """Add a prompt: lower numbers first, then by id as ComfyUI does."""
        with self._changed:
            self._sequence += 1
            entry = (item.number, item.prompt_id, self._sequence, item)
            heapq.heappush(self._waiting, entry)
            self._on_change()
            self._changed.notify()

    def take(self) -> QueueItem | None:
        """Wait for the next prompt and mark it as running; `None` says only that `free` was asked."""
        with self._changed:
            while not self._waiting:
                if self._wants_free:
                    return None
                self._changed.wait()
            item = heapq.heappop(self._waiting)[-1]
            self._running = item
            self._interrupted.clear()
            self._on_change()
            return item

    def finish(self, status: Status, outputs: dict[str, Json], meta: dict[str, Json]) -> None:
        """Move the running prompt to the history."""
        with self._changed:
            if self._running is None:
                raise RuntimeError("no prompt is running")
            item, self._running = self._running, None
            self.history.add(Entry(item.prompt_id, item.to_wire(), outputs, status, meta))
            self._on_change()

    def snapshot(self) -> tuple[Sequence[QueueItem], Sequence[QueueItem]]:
        """Return what runs and what waits; as with ComfyUI the latter is a heap, not sorted."""
        with self._changed:
            running = [] if self._running is None else [self._running]
            return running, [entry[-1] for entry in self._waiting]

    def clear(self) -> None:
        """Forget all that wait."""
        with self._changed:
            self._waiting.clear()
            self._on_change()

    def delete(self, prompt_id: str) -> bool:
        """Forget one that waits; return whether it was there. A running one stays."""
        with self._changed:
            left = [entry for entry in self._waiting if entry[1] != prompt_id]
            if len(left) == len(self._waiting):
                return False
            heapq.heapify(left)
            self._waiting = left
            self._on_change()
            return True

    def interrupt(self, prompt_id: str | None = None) -> bool:
        """Ask the running prompt to stop; with an id only if it is that one. Return whether asked."""
        with self._changed:
            if self._running is None or prompt_id not in (None, self._running.prompt_id):
                return False
            self._interrupted.set()
            return True

    @property
    def is_interrupted(self) -> bool:
        """Whether the running prompt is to stop."""
        return self._interrupted.is_set()

    def ask_free(self) -> None:
        """Have the worker drop its cache once it is between prompts."""
        with self._changed:
            self._wants_free = True
            self._changed.notify()

    def take_free(self) -> bool:
        """Return whether `ask_free` was called since the last time."""
        with self._changed:
            wanted, self._wants_free = self._wants_free, False
            return wanted
