"""What ran, as `/history` shows it: in memory only, the oldest forgotten first."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_ENTRIES = 10_000
"""ComfyUI's own limit."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a prompt ended, with the messages that said so."""

    is_completed: bool
    messages: Sequence[tuple[str, dict[str, Any]]]
    """Event name and data of `execution_start`, `execution_cached` and the last one."""

    def to_wire(self) -> dict[str, Any]:
        """Return the `status` object of a history entry."""
        return {
            "status_str": "success" if self.is_completed else "error",
            "completed": self.is_completed,
            "messages": [list(message) for message in self.messages],
        }


@dataclass(frozen=True, slots=True)
class Entry:
    """One prompt that ran."""

    prompt_id: str
    item: list[Any]
    """The five elements of the queue item."""
    outputs: dict[str, Any]
    """What output nodes reported, by node id."""
    status: Status
    meta: dict[str, Any]

    def to_wire(self) -> dict[str, Any]:
        """Return the value of this prompt in `/history`."""
        return {
            "prompt": self.item,
            "outputs": self.outputs,
            "status": self.status.to_wire(),
            "meta": self.meta,
        }


class History:
    """Entries by prompt id, oldest first. Safe to use from any thread."""

    def __init__(self, limit: int = MAX_ENTRIES) -> None:
        self._entries: dict[str, Entry] = {}
        self._limit = limit
        self._lock = threading.Lock()

    def add(self, entry: Entry) -> None:
        """Keep an entry. One of the same id keeps its place but is replaced, as in ComfyUI."""
        with self._lock:
            while len(self._entries) >= self._limit:
                del self._entries[next(iter(self._entries))]
            self._entries[entry.prompt_id] = entry

    def get(self, prompt_id: str) -> Entry | None:
        """Return one entry."""
        with self._lock:
            return self._entries.get(prompt_id)

    def all(self) -> list[Entry]:
        """Return all entries, oldest first."""
        with self._lock:
            return list(self._entries.values())

    def page(self, max_items: int | None, offset: int) -> list[Entry]:
        """Return `max_items` entries from `offset` on; a negative offset means the latest ones."""
        entries = self.all()
        if offset < 0:
            offset = 0 if max_items is None else max(len(entries) - max_items, 0)
        # ComfyUI looks at its limit after adding, so zero still gives one.
        end = None if max_items is None else offset + max(max_items, 1)
        return entries[offset:end]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def delete(self, prompt_id: str) -> None:
        """Forget one entry, if it is there."""
        with self._lock:
            self._entries.pop(prompt_id, None)
