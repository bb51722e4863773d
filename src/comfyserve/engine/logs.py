"""The log: lines on stderr as a ComfyUI writes them, and the latest of them for `/internal/logs`."""

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

_KEPT_LINES = 300
_SIZE = {"cols": 120, "rows": 40}
"""Of the terminal that the frontend draws; this log has none."""


class LogBook(logging.Handler):
    """Keeps the latest lines and hands new ones to the clients that asked for them."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._entries: deque[dict[str, str]] = deque(maxlen=_KEPT_LINES)
        self._subscribers: set[str] = set()
        self._send: Callable[[str, Mapping[str, Any], str], None] | None = None
        self._own_lock = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        time = datetime.fromtimestamp(record.created, UTC).replace(tzinfo=None)
        entry = {"t": time.isoformat(), "m": self.format(record) + "\n"}
        with self._own_lock:
            self._entries.append(entry)
            subscribers = list(self._subscribers)
        for client in subscribers:
            if self._send is not None:
                self._send("logs", {"entries": [entry], "size": _SIZE}, client)

    def text(self) -> str:
        """Return all kept lines, each with its time."""
        with self._own_lock:
            return "".join(f"{entry['t']} - {entry['m']}" for entry in self._entries)

    def raw(self) -> dict[str, Any]:
        """Return all kept lines as `/internal/logs/raw` gives them."""
        with self._own_lock:
            return {"entries": list(self._entries), "size": _SIZE}

    def subscribe(
        self, client: str, send: Callable[[str, Mapping[str, Any], str], None] | None
    ) -> None:
        """Hand new lines to this client by `send`, or no more where `send` is `None`."""
        with self._own_lock:
            if send is None:
                self._subscribers.discard(client)
            else:
                self._send = send
                self._subscribers.add(client)


def start_logging() -> LogBook:
    """Send all log lines of this process to stderr and into the returned book."""
    book = LogBook()
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[stderr, book], force=True)
    return book
