"""Connections of one database: a writer thread that commits in groups, and a few readers.

Stores hand in plain functions of a connection. All writes that wait when the writer is free share
one transaction, and so one fsync; each runs in a savepoint of its own, so that one that raises
undoes only itself. What comes in great numbers is handed in as an item for a batch: neighbours are
done by one call, or each by itself if that raises. A caller goes on after the commit, never before.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from sqlalchemy import Connection

from comfyserve.domain.errors import InvalidInput
from comfyserve.store.migrate import migrate
from comfyserve.store.sqlite import connect_reader, connect_writer, driver_of, translate

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - an item
Work = Callable[[Connection], T]
Batch = Callable[[Connection, Sequence[I]], Sequence[T]]

_LARGEST_GROUP = 256
_SCHEME = "sqlite:///"


class Database:
    """An open database. Queues are bounded by the callers: each awaits its own work.

    A work may run more than once (a group that cannot be committed is tried again one by one), so
    it must touch nothing but its connection. Awaiting may be cancelled; a write that was handed
    in is committed all the same.
    """

    def __init__(self, url: str, *, readers: int = 2) -> None:
        self._path = _path_of(url)
        self._reader_count = readers
        self._turn: list[_Ticket[Any]] = []
        self._writes: Lane = SimpleQueue()
        self._reads: Lane = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._is_open = False

    async def __aenter__(self) -> Self:
        writer, readers = await asyncio.to_thread(self._connect)
        loop = asyncio.get_running_loop()
        self._start("writer", _write_until_told, loop, writer, self._writes)
        for number, reader in enumerate(readers):
            self._start(f"reader-{number}", _read_until_told, loop, reader, self._reads)
        self._is_open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Finish what was handed in, then close. Twice is fine."""
        self._is_open = False
        self._end_turn()
        threads, self._threads = self._threads, []
        await asyncio.to_thread(self._stop, threads)

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction; return its result once that is on disk.

        Raises what `work` raised, with nothing changed; StorageFull if the disk is.
        """
        return await self._write(work)

    async def write_item(self, batch: Batch[I, T], item: I) -> T:
        """As `write`, by a function that does all items that wait side by side at once.

        It gives a result for each item, in their order; if it raises, it is called anew for each
        item alone.
        """
        return await self._write(lambda c: batch(c, (item,))[0], (batch, item))

    async def read(self, work: Work[T]) -> T:
        """Run `work` over one snapshot of what is committed."""
        loop = self._opened()
        future: asyncio.Future[T] = loop.create_future()
        self._reads.put(_Ticket(work, future))
        return await future

    async def _write(self, work: Work[T], share: tuple[Batch[Any, T], Any] | None = None) -> T:
        """Hand it in at the end of this turn of the loop, with what else the turn brings.

        The writer would else begin with the first of many, and find the others too late.
        """
        loop = self._opened()
        future: asyncio.Future[T] = loop.create_future()
        if not self._turn:
            loop.call_soon(self._end_turn)
        self._turn.append(_Ticket(work, future, share))
        return await future

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, []
        for ticket in turn:
            self._writes.put(ticket)

    def _opened(self) -> asyncio.AbstractEventLoop:
        if not self._is_open:
            raise RuntimeError("the database is closed")
        return asyncio.get_running_loop()

    def _connect(self) -> tuple[Connection, list[Connection]]:
        writer = connect_writer(self._path)
        try:
            migrate(writer)
            return writer, [connect_reader(self._path) for _ in range(self._reader_count)]
        except BaseException as error:
            writer.close()
            if (shown := translate(error)) is not error:
                raise shown from error
            raise

    def _stop(self, threads: Sequence[threading.Thread]) -> None:
        writer, readers = threads[:1], threads[1:]
        # The writer goes last: the last connection to close folds the log into the database.
        for lane, lane_threads in ((self._reads, readers), (self._writes, writer)):
            for _ in lane_threads:
                lane.put(None)
            for thread in lane_threads:
                thread.join()

    def _start(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name=f"database-{name}")
        thread.daemon = True
        thread.start()
        self._threads.append(thread)


class _Ticket(Generic[T]):
    """One work, and the future of the coroutine that waits for it."""

    __slots__ = ("_error", "_future", "_result", "_work", "batch", "item")

    def __init__(
        self,
        work: Work[T],
        future: asyncio.Future[T],
        share: tuple[Batch[Any, T], Any] | None = None,
    ) -> None:
        self._work = work
        self._future = future
        self.batch: Batch[Any, T] | None = share and share[0]
        self.item: object = share and share[1]
        self._result: tuple[T] | None = None
        self._error: BaseException | None = None

    def run(self, connection: Connection) -> None:
        """Do the work; what it raises comes out."""
        self._result, self._error = None, None
        self._result = (self._work(connection),)

    def succeed(self, result: T) -> None:
        """Remember the result of a work that was done together with others."""
        self._result, self._error = (result,), None

    def fail(self, error: BaseException) -> None:
        """Remember what to raise at the caller."""
        self._error = translate(error)

    def settle(self) -> None:
        """Wake the caller, unless it went away. Runs on the event loop."""
        error, self._error = self._error, None  # a traceback refers to this ticket
        if self._future.done():
            return
        if error is not None:
            self._future.set_exception(error)
        elif self._result is not None:
            self._future.set_result(self._result[0])


Lane = SimpleQueue["_Ticket[Any] | None"]


def _read_until_told(loop: asyncio.AbstractEventLoop, connection: Connection, lane: Lane) -> None:
    with connection:
        while (ticket := lane.get()) is not None:
            try:
                with connection.begin():
                    ticket.run(connection)
            except Exception as error:  # noqa: BLE001 - it goes to the caller
                ticket.fail(error)
            loop.call_soon_threadsafe(ticket.settle)


def _write_until_told(loop: asyncio.AbstractEventLoop, connection: Connection, lane: Lane) -> None:
    is_told = False
    with connection:
        while not is_told:
            group, is_told = _take(lane)
            if group:
                _commit(connection, group)
                loop.call_soon_threadsafe(_settle, group)


def _take(lane: Lane) -> tuple[list[_Ticket[Any]], bool]:
    """Wait for a work, then take all that wait with it; also whether to stop after them."""
    ticket = lane.get()
    group: list[_Ticket[Any]] = []
    while ticket is not None:
        group.append(ticket)
        if len(group) >= _LARGEST_GROUP:
            return group, False
        try:
            ticket = lane.get_nowait()
        except Empty:
            return group, False
    return group, True


def _commit(connection: Connection, group: Sequence[_Ticket[Any]]) -> None:
    """Run a group in one transaction. If it cannot be committed, each is tried by itself."""
    try:
        with connection.begin():
            if len(group) == 1:
                group[0].run(connection)
            else:
                for part in _parts(group):
                    _run_isolated(connection, part)
    except Exception as error:  # noqa: BLE001 - it goes to the caller
        if len(group) == 1:
            group[0].fail(error)
            return
        for ticket in group:
            _commit(connection, [ticket])


def _parts(group: Sequence[_Ticket[Any]]) -> Iterator[Sequence[_Ticket[Any]]]:
    """Neighbours with the same batch; each other ticket alone."""
    for batch, tickets in groupby(group, key=attrgetter("batch")):
        if batch is None:
            yield from ((ticket,) for ticket in tickets)
        else:
            yield tuple(tickets)


def _run_isolated(connection: Connection, part: Sequence[_Ticket[Any]]) -> None:
    driver = driver_of(connection)
    driver.execute("SAVEPOINT work")
    try:
        _run(connection, part)
    except Exception as error:
        # A full disk can make SQLite give up the whole transaction, savepoints and all.
        if not driver.in_transaction:
            raise
        driver.execute("ROLLBACK TO work")
        if len(part) == 1:
            part[0].fail(error)
        for ticket in part if len(part) > 1 else ():
            _run_isolated(connection, (ticket,))
    driver.execute("RELEASE work")


def _run(connection: Connection, part: Sequence[_Ticket[Any]]) -> None:
    batch = part[0].batch
    if batch is None or len(part) == 1:
        part[0].run(connection)
        return
    results = batch(connection, [ticket.item for ticket in part])
    for ticket, result in zip(part, results, strict=True):
        ticket.succeed(result)


def _settle(group: Sequence[_Ticket[Any]]) -> None:
    for ticket in group:
        ticket.settle()


def _path_of(url: str) -> Path:
    """What follows the scheme is the path as it is: a home may have any name."""
    path = url.removeprefix(_SCHEME)
    if not url.startswith(_SCHEME) or path in {"", ":memory:"}:
        raise InvalidInput(
            f"'{url}' cannot be the database: only SQLite files are supported, as {_SCHEME}PATH.",
            code="unsupported_database",
        )
    return Path(path)
