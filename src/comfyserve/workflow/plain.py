"""Plain JSON: whatever Python's reader takes, made fit for every other reader."""

import math
from collections.abc import Mapping
from typing import Any, Final

MAX_DEPTH: Final = 200
_TOO_DEEP: Final = "(too deep to be shown)"


def plain(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - any JSON
    """Return parsed JSON that can be written as strict UTF-8 JSON.

    NaN and infinities become null, as the editor writes them; half surrogates become `?`; what is nested
    deeper than `MAX_DEPTH` becomes a note.
    """
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        if depth >= MAX_DEPTH:
            return _TOO_DEEP
        return {_text(str(key)): plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return _TOO_DEEP if depth >= MAX_DEPTH else [plain(each, depth + 1) for each in value]
    return value


def _text(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
