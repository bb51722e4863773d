"""Finished histories kept at hand: an entry never changes until somebody deletes it."""

from collections import OrderedDict

from comfyserve.store.jobs import JobStore

_LARGEST_ENTRY_BYTES = 256 * 1024


class Histories:
    """A bounded cache over the store's history entries (least recently used goes first)."""

    def __init__(self, jobs: JobStore, *, limit_bytes: int = 16 * 1024 * 1024) -> None:
        self._jobs = jobs
        self._limit_bytes = limit_bytes
        self._size = 0
        self._entries: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._generation = 0

    async def get(self, deployment_id: str, prompt_id: str) -> bytes | None:
        """The entry as JSON, None while there is none."""
        key = (deployment_id, prompt_id)
        if (entry := self._entries.get(key)) is not None:
            self._entries.move_to_end(key)
            return entry
        generation = self._generation
        entry = await self._jobs.history_entry(deployment_id, prompt_id)
        is_current = generation == self._generation and key not in self._entries
        if is_current and entry is not None and len(entry) <= _LARGEST_ENTRY_BYTES:
            self._keep(key, entry)
        return entry

    def forget(self, deployment_id: str, prompt_id: str | None = None) -> None:
        """Entries of a deployment were deleted, or one was written anew."""
        self._generation += 1
        for key in [
            key for key in self._entries if key[0] == deployment_id and prompt_id in (None, key[1])
        ]:
            self._size -= len(self._entries.pop(key))

    def _keep(self, key: tuple[str, str], entry: bytes) -> None:
        self._entries[key] = entry
        self._size += len(entry)
        while self._size > self._limit_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._size -= len(oldest)
