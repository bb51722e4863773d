"""Prefixed ids: which noun an id belongs to can be read off it."""

import re
from enum import StrEnum

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_LENGTH = 20
ENTROPY_BYTES = 13
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


def make_uuid(entropy: bytes) -> str:
    """A lowercase UUID (version 4) made of 16 random bytes, several times as fast as `uuid4`."""
    digits = entropy.hex()
    variant = "89ab"[entropy[8] >> 6]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def is_canonical_uuid(text: str) -> bool:
    """Whether `text` is a lowercase, hyphenated UUID: the only prompt id that every ComfyUI takes."""
    return _CANONICAL_UUID.fullmatch(text) is not None
