"""Statuses from a launcher to whoever watches: the latest of each replica, never a backlog."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Self
from weakref import WeakSet

from comfyserve.runtime.launchers.base import LaunchStatus


class StatusWatch(AsyncIterator[LaunchStatus]):
    """One watcher's view. Bounded by itself: a newer status of a replica replaces an unread one."""

    def __init__(self, statuses: Iterable[LaunchStatus]) -> None:
        self._unread = {status.id: status for status in statuses}
        self._news = asyncio.Event()
        self._is_ended = False

    def offer(self, status: LaunchStatus) -> None:
        """Hand over a status."""
        self._unread[status.id] = status
        self._news.set()

    def end(self) -> None:
        """Let the watcher read what is left, then stop."""
        self._is_ended = True
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LaunchStatus:
        while not self._unread:
            if self._is_ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._unread.pop(next(iter(self._unread)))


class StatusFeed:
    """All watchers of one launcher; one that is dropped is forgotten by itself."""

    def __init__(self) -> None:
        self._watches: WeakSet[StatusWatch] = WeakSet()

    def watch(self, statuses: Iterable[LaunchStatus]) -> StatusWatch:
        """Return a new watch that begins with `statuses`."""
        watch = StatusWatch(statuses)
        self._watches.add(watch)
        return watch

    def publish(self, status: LaunchStatus) -> None:
        """Hand a status to every watcher."""
        for watch in self._watches:
            watch.offer(status)

    def end(self) -> None:
        """End every watch."""
        for watch in self._watches:
            watch.end()
