"""What replicas wrote, without the values of secrets: the only way to a log that is shown."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from comfyserve.runtime.launchers.base import Launcher
from comfyserve.store.secrets import SecretStore

_CHUNK_BYTES = 256 * 1024
_PAUSE_S = 0.25


class ReplicaLogs:
    """The logs of a launcher's replicas, masked."""

    def __init__(self, launcher: Launcher, secrets: SecretStore) -> None:
        self._launcher = launcher
        self._secrets = secrets

    async def tail(self, replica_id: str, tail_bytes: int) -> bytes:
        """The end of a log, also after the replica's end."""
        mask = await self._secrets.mask()
        # Longer by what a value may hang over the cut with.
        data = await self._launcher.logs(replica_id, tail_bytes=tail_bytes + mask.longest)
        return await asyncio.to_thread(mask.apply, data) if mask else data

    async def lines(self, replica_id: str, tail_bytes: int) -> Sequence[str]:
        """The same as lines of text."""
        data = await self.tail(replica_id, tail_bytes)
        return data.decode("utf-8", "replace").splitlines()

    async def follow(self, replica_id: str, lines: int, tail_bytes: int) -> AsyncIterator[bytes]:
        """The last lines, then what comes until the replica ends.

        Polls: the log is a file that another process writes, perhaps on another host.
        """
        tail, held, offset, is_caught_up = b"", b"", 0, False
        while True:
            status = await self._launcher.get(replica_id)
            chunk = await self._launcher.read_log(
                replica_id, offset=offset, limit_bytes=_CHUNK_BYTES
            )
            mask = await self._secrets.mask()
            # The older part may have been given up meanwhile, in the middle of a value.
            data = held + chunk.data if chunk.offset == offset else mask.without_cut(chunk.data)
            offset = chunk.end
            if chunk.data:
                shown, held = await asyncio.to_thread(mask.split, data)
                if is_caught_up:
                    yield shown
                else:
                    tail = (tail + shown)[-tail_bytes:]
                continue
            if not is_caught_up:
                is_caught_up = True
                yield last_lines(tail, lines)
            elif status is None or status.is_gone:
                yield mask.apply(held)
                return
            else:
                await asyncio.sleep(_PAUSE_S)


def last_lines(data: bytes, count: int) -> bytes:
    """The last `count` lines of a text."""
    return b"".join(data.splitlines(keepends=True)[-count:]) if count else b""
