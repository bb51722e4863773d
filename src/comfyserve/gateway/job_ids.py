"""Ids for new jobs: the same at every door."""

import secrets

from comfyserve.domain.ids import UUID_ENTROPY_BYTES, make_uuid

_DRAWN_AT_ONCE = 256 * UUID_ENTROPY_BYTES


class _Entropy:
    """Random bytes of the system, drawn many at a time: each draw gives up the interpreter lock."""

    def __init__(self) -> None:
        self._bytes = b""
        self._used = 0

    def take(self, count: int) -> bytes:
        """`count` bytes that nobody else gets."""
        if self._used + count > len(self._bytes):
            self._bytes, self._used = secrets.token_bytes(_DRAWN_AT_ONCE), 0
        self._used += count
        return self._bytes[self._used - count : self._used]


_entropy = _Entropy()


def new_job_id(now: float) -> str:
    """A fresh id for a job that is made at `now`. Only for the event loop's thread."""
    return make_uuid(now, _entropy.take(UUID_ENTROPY_BYTES))
