"""The log of one build: bounded, and without the values of secrets."""

from collections.abc import Collection, Iterable
from pathlib import Path

from comfyserve.domain.secret import Mask


class BuildLog:
    """Appends lines to a file, up to a limit. Blocks; for threads."""

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        self._size = 0
        self._values: tuple[str, ...] = ()
        self._mask = Mask()

    def mask(self, values: Collection[str]) -> None:
        """From now on, replace these values wherever they would be shown."""
        self._values = (*self._values, *values)
        self._mask = Mask(self._values)

    def clean(self, text: str) -> str:
        """The text without the values of secrets."""
        return self._mask.text(text) if self._mask else text

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
