"""The log of one build: bounded, and without the values of secrets."""

from collections.abc import Collection, Iterable
from pathlib import Path

_MASK = "***"
_SHORTEST_SECRET = 4
"""A shorter value would be masked wherever its letters occur."""


class BuildLog:
    """Appends lines to a file, up to a limit. Blocks; for threads."""

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        self._size = 0
        self._secrets: tuple[str, ...] = ()

    def mask(self, values: Collection[str]) -> None:
        """From now on, replace these values wherever they would be shown."""
        lines = {line for value in values for line in (value, *value.splitlines())}
        kept = {line for line in lines if len(line) >= _SHORTEST_SECRET}
        self._secrets = tuple(sorted({*kept, *self._secrets}, key=len, reverse=True))

    def clean(self, text: str) -> str:
        """The text without the values of secrets."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text

    def write(self, lines: Iterable[str]) -> list[str]:
        """Write lines; return them as they are shown."""
        shown = [self.clean(line) for line in lines]
        if self._size < self._limit_bytes:
            data = "".join(f"{line}\n" for line in shown).encode("utf-8", "replace")
            self._size += len(data)
            if self._size >= self._limit_bytes:
                data += b"(the log is full; what follows is not kept)\n"
            with self.path.open("ab") as file:
                file.write(data)
        return shown
