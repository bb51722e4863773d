"""Prefixed ids: which noun an id belongs to can be read off it."""

import re
from enum import StrEnum

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_LENGTH = 20
ENTROPY_BYTES = 13
UUID_ENTROPY_BYTES = 10
_CANONICAL_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Prefix(StrEnum):
    """One per noun. A job has none: its id is the `prompt_id`, a UUID, on every door."""

    DEPLOYMENT = "dp"
    REVISION = "rv"
    REPLICA = "rp"
    TOKEN = "tk"  # noqa: S105 - a prefix, not a secret
    RUNTIME = "rt"
    ENDPOINT = "ep"
    BATCH = "bt"
    VOLUME = "vo"
    WEBHOOK = "wh"
    DELIVERY = "msg"
    BUILD = "bd"


def make_id(prefix: Prefix, entropy: bytes) -> str:
    """Return `prefix_` and 20 base32 characters made of `entropy` (at least 13 random bytes)."""
    if len(entropy) < ENTROPY_BYTES:
        raise ValueError(f"an id needs {ENTROPY_BYTES} bytes of entropy, got {len(entropy)}")
    number = int.from_bytes(entropy)
    letters = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, 32)
        letters.append(_ALPHABET[digit])
    return f"{prefix}_{''.join(letters)}"


def make_uuid(now: float, entropy: bytes) -> str:
    """A lowercase UUID of version 7 (RFC 9562): the time in milliseconds, then 10 random bytes.

    Ids of one time are neighbours in an index, so that a thousand new jobs change a few of its pages
    and not a thousand. `now`: seconds since the epoch.
    """
    digits = (int(now * 1000).to_bytes(6) + entropy).hex()
    variant = "89ab"[entropy[2] >> 6]
    return f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def is_canonical_uuid(text: str) -> bool:
    """Whether `text` is a lowercase, hyphenated UUID: the only prompt id that every ComfyUI takes."""
    return _CANONICAL_UUID.fullmatch(text) is not None
