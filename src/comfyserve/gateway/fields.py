"""What callers send at more than one door, read and checked: labels, page sizes, idempotency keys."""

import re
from collections.abc import Mapping

from starlette.datastructures import Headers, QueryParams

from comfyserve.gateway.errors import Refusal

LABEL_KEY = re.compile(r"[A-Za-z0-9_.-]{1,40}")
# Control characters, and those that turn the direction of text around.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_MOST_LABELS = 16
_MOST_LABEL_BYTES = 256
_KEY = re.compile(r"[\x20-\x7e]{1,255}")


def read_labels(metadata: object, what: str = "metadata") -> Mapping[str, str]:
    """A job's labels. Raises Refusal `metadata_invalid`, naming the key or the count."""
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise _bad_label(f"{what} must be an object of texts, not {type(metadata).__name__}")
    if len(metadata) > _MOST_LABELS:
        raise _bad_label(f"{what} has {len(metadata)} pairs; at most {_MOST_LABELS} are allowed")
    for key, value in metadata.items():
        shown = f"{what} key '{key[:80]}'"
        if LABEL_KEY.fullmatch(key) is None:
            raise _bad_label(f"{shown} must be 1 to 40 of letters, digits, '_', '.' and '-'")
        if not isinstance(value, str):
            raise _bad_label(f"{shown} has a value that is {type(value).__name__}, not a text")
        if len(value.encode()) > _MOST_LABEL_BYTES:
            raise _bad_label(f"{shown} has a value of more than {_MOST_LABEL_BYTES} bytes")
        if UNSEEN.search(value):
            raise _bad_label(f"{shown} has a value with characters that cannot be seen")
    return metadata


def read_limit(query: QueryParams, *, default: int, most: int) -> int:
    """The size of a page. Raises Refusal."""
    text = query.get("limit")
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= most:
        raise Refusal(400, "invalid_request", f"limit must be a whole number from 1 to {most}")
    return int(text)


def read_idempotency_key(headers: Headers) -> str | None:
    """The single-use key of a request. Raises Refusal."""
    key = headers.get("idempotency-key")
    if key is not None and _KEY.fullmatch(key) is None:
        raise Refusal(
            422,
            "invalid_request",
            "Idempotency-Key must be 1 to 255 printable ASCII characters",
        )
    return key


def _bad_label(message: str) -> Refusal:
    return Refusal(422, "metadata_invalid", message)
