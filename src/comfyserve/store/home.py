"""The lock on a home: one server at a time, and a name for whoever holds it."""

import asyncio
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from comfyserve.domain.errors import HomeInUse


class Holder(msgspec.Struct, frozen=True):
    """Who holds a home. `since` is seconds since the epoch; `url` is empty until it listens."""

    pid: int
    host: str
    url: str
    since: float


class HomeLock:
    """Holds `home/lock` from enter to exit. The kernel frees it when the process dies, however."""

    def __init__(self, home: Path, *, url: str, now: float) -> None:
        self._path = home / "lock"
        self._holder = Holder(pid=os.getpid(), host=os.uname().nodename, url=url, since=now)
        self._handle: int | None = None

    async def __aenter__(self) -> Self:
        """Raises HomeInUse, naming the holder."""
        self._handle = await asyncio.to_thread(self._acquire)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            # The file stays: removing it would let two servers lock two files of one name.
            await asyncio.to_thread(_release, handle)

    async def publish(self, url: str) -> None:
        """Say where this server listens, once it is known."""
        if self._handle is None:
            raise RuntimeError("the lock is not held")
        self._holder = msgspec.structs.replace(self._holder, url=url)
        await asyncio.to_thread(_write, self._handle, self._holder)

    def _acquire(self) -> int:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(handle, self._holder)
        except BlockingIOError:
            os.close(handle)
            raise HomeInUse(self._refusal()) from None
        except BaseException:
            os.close(handle)
            raise
        return handle

    def _refusal(self) -> str:
        home, holder = self._path.parent, read_holder(self._path.parent)
        if holder is None:
            return f"The home {home} is in use by another server."
        at = f" at {holder.url}" if holder.url else ""
        return (
            f"The home {home} is in use by the server with process id {holder.pid} on "
            f"{holder.host}{at}. Stop it, or choose another --home."
        )


def read_holder(home: Path) -> Holder | None:
    """Who wrote the lock last; only meaningful while it is held."""
    try:
        return msgspec.json.decode((home / "lock").read_bytes(), type=Holder)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _write(handle: int, holder: Holder) -> None:
    # In this order a reader never finds the file empty.
    os.ftruncate(handle, os.pwrite(handle, msgspec.json.encode(holder), 0))


def _release(handle: int) -> None:
    os.ftruncate(handle, 0)
    os.close(handle)
