"""Secrets at rest: sealed with a key that lies in the home and not in the database.

A job's secrets (the API keys that a client sends along) must outlive a restart, and must not be
readable in a copy of the database. Fernet (AES-CBC and HMAC) of `cryptography` does both.
"""

import base64
import hashlib
import hmac
import os
import secrets
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from comfyserve.domain.errors import ComfyserveError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

KEY_BYTES = 32


class Sealer:
    """Seals and opens small byte strings under one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, plain: bytes) -> bytes:
        """Encrypt and authenticate; the result differs every time."""
        return self._fernet.encrypt(plain)

    def open(self, sealed: bytes) -> bytes:
        """What was sealed. Raises ComfyserveError if it was changed or the key is another one."""
        from cryptography.fernet import InvalidToken  # noqa: PLC0415 - see _fernet

        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise ComfyserveError(
                "A secret cannot be opened: the key file of the home is not the one that sealed it.",
                code="secrets_unreadable",
            ) from None

    @cached_property
    def _fernet(self) -> "Fernet":
        # Imported here: it takes 7 MB, and most servers hold no secret.
        from cryptography.fernet import Fernet  # noqa: PLC0415

        return Fernet(base64.urlsafe_b64encode(self._key))


def derive_key(key: bytes, purpose: str) -> bytes:
    """A key of its own for another purpose: whoever learns it learns nothing about `key`."""
    return hmac.new(key, purpose.encode(), hashlib.sha256).digest()


def load_key(path: Path) -> bytes:
    """Read the key file, or make it, readable by the owner alone. Raises ComfyserveError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise ComfyserveError(
                f"{path} is not a key of {KEY_BYTES} bytes.", code="secrets_unreadable"
            ) from None
        return key
    with os.fdopen(handle, "wb") as file:
        key = secrets.token_bytes(KEY_BYTES)
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key
