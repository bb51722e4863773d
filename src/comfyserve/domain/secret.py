"""Secrets: what one may be called and hold, and how its value is kept out of a log."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from comfyserve.domain.errors import InvalidInput

LARGEST_VALUE_BYTES = 32 * 1024
MOST_LINES = 100
"""Each is looked for in every log that is shown."""
SHORTEST_MASKED = 4
"""Shorter values are not masked: they would make any log unreadable and hide nothing."""
MASKED = b"***"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# Set by whoever starts the process: another value would break it, or be lost.
_TAKEN = frozenset({"PATH", "HOME", "PORT", "PWD", "CUDA_VISIBLE_DEVICES"})
_TAKEN_PREFIXES = ("COMFYSERVE_", "LD_")


def check_secret_name(name: str) -> str:
    """Return `name` if it can be a variable of an environment, else raise InvalidInput."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"'{name[:80]}' cannot be the name of a secret: it becomes an environment variable, so "
            "use letters, digits and '_', not beginning with a digit",
            code="invalid_name",
        )
    if name in _TAKEN or name.startswith(_TAKEN_PREFIXES):
        raise InvalidInput(
            f"'{name}' cannot be the name of a secret: that variable is set by comfyserve",
            code="invalid_name",
        )
    return name


def check_secret_value(value: str) -> str:
    """Return `value` if an environment can hold it, else raise InvalidInput without repeating it."""
    if not value.strip():
        raise InvalidInput("a secret cannot be empty", code="invalid_secret")
    if len(value.splitlines()) > MOST_LINES:
        raise InvalidInput(
            f"a secret can have {MOST_LINES} lines; put a longer file on a volume",
            code="invalid_secret",
        )
    if "\0" in value or not _is_encodable(value):
        raise InvalidInput("a secret must be text without NUL", code="invalid_secret")
    if len(value.encode()) > LARGEST_VALUE_BYTES:
        raise InvalidInput(
            f"a secret can have {LARGEST_VALUE_BYTES} bytes; put a larger file on a volume",
            code="invalid_secret",
        )
    return value


class Mask:
    """Takes values out of bytes. Each line of a value counts, and its usual spellings."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        found = {piece for value in values for piece in _spellings(value)}
        # The longest first: one value may hold another.
        self._pieces = tuple(sorted(found, key=lambda piece: (-len(piece), piece)))

    def __bool__(self) -> bool:
        return bool(self._pieces)

    @property
    def longest(self) -> int:
        """The length of the longest piece, 0 where nothing is masked."""
        return len(self._pieces[0]) if self._pieces else 0

    def apply(self, data: bytes) -> bytes:
        """`data` with every value replaced, also one whose beginning was cut off before `data`."""
        return self._without(self.without_cut(data))

    def text(self, text: str) -> str:
        """A whole text with every value replaced."""
        shown = self._without(text.encode("utf-8", "surrogatepass"))
        return shown.decode("utf-8", "surrogatepass")

    def document(self, value: Any) -> Any:  # noqa: ANN401 - the JSON border
        """JSON with every value in its texts replaced."""
        match value:
            case str():
                return self.text(value) if self else value
            case dict():
                return {key: self.document(item) for key, item in value.items()}
            case list() | tuple():
                return [self.document(item) for item in value]
            case _:
                return value

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """The part of a stream that can be shown now, masked, and the rest, to be put before what comes.

        The rest is what may be the beginning of a value.
        """
        safe = len(data)
        for piece in self._pieces:
            safe = min(safe, _beginning_of(piece, data))
        while (
            moved := min((_before(piece, data, safe) for piece in self._pieces), default=safe)
        ) < safe:
            safe = moved
        return self._without(data[:safe]), data[safe:]

    def _without(self, data: bytes) -> bytes:
        for piece in self._pieces:
            data = data.replace(piece, MASKED)
        return data

    def without_cut(self, data: bytes) -> bytes:
        """`data` without what may be, at its beginning, the end of a value."""
        longest = 0
        for piece in self._pieces:
            length = min(len(piece) - 1, len(data))
            while length > longest and not piece.endswith(data[:length]):
                length -= 1
            if length >= SHORTEST_MASKED:
                longest = max(longest, length)
        return data[longest:]


def _beginning_of(piece: bytes, data: bytes) -> int:
    """Where an end of `data` begins that `piece` begins with; the length of `data` if none does."""
    at = data.find(piece[:1], max(0, len(data) - len(piece) + 1))
    while at >= 0 and not piece.startswith(data[at:]):
        at = data.find(piece[:1], at + 1)
    return at if at >= 0 else len(data)


def _before(piece: bytes, data: bytes, cut: int) -> int:
    """Where to cut instead, so that no whole `piece` is cut in two."""
    at = data.find(piece, max(0, cut - len(piece) + 1), cut + len(piece) - 1)
    return at if 0 <= at < cut else cut


def _spellings(value: str) -> Iterator[bytes]:
    """A value as logs show it: as it is, percent-encoded, and as in JSON or a Python literal."""
    for line in value.splitlines():
        stripped = line.strip()
        if len(stripped) >= SHORTEST_MASKED:
            yield from (
                text.encode("utf-8", "surrogatepass")
                for text in (
                    stripped,
                    quote(stripped, safe=""),
                    json.dumps(stripped)[1:-1],
                    json.dumps(stripped, ensure_ascii=False)[1:-1],
                    repr(stripped)[1:-1],
                )
            )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
