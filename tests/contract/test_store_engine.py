"""The database: group commit, isolation, cancellation, and what a bad file leads to."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from comfyserve.domain.errors import ComfyserveError, InvalidInput, NotReady, StorageFull
from comfyserve.store.engine import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(f"sqlite:///{tmp_path / 'test.db'}") as database:
        await database.write(_run("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT UNIQUE)"))
        yield database


class Statement:
    """A work that runs one statement."""

    def __init__(self, sql: str) -> None:
        self._sql = sql

    def __call__(self, connection: Connection) -> int:
        return connection.execute(text(self._sql)).rowcount


def _run(sql: str) -> Statement:
    return Statement(sql)


def _note(note: str) -> Statement:
    return Statement(f"INSERT INTO note (text) VALUES ('{note}')")


async def _notes(database: Database) -> list[str]:
    return await database.read(
        lambda connection: list(
            connection.execute(text("SELECT text FROM note ORDER BY id")).scalars()
        )
    )


@asynccontextmanager
async def _held_writer(database: Database) -> AsyncIterator[None]:
    """Keep the writer busy, so that what is handed in inside the block waits and shares a group."""
    started, release = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        started.set()
        release.wait(20)

    async with asyncio.TaskGroup() as group:
        group.create_task(database.write(hold))
        await asyncio.to_thread(started.wait, 20)
        try:
            yield
        finally:
            release.set()


async def _in_one_group(database: Database, *works: Statement) -> list[int | BaseException]:
    async with _held_writer(database):
        waiting = asyncio.gather(*(database.write(w) for w in works), return_exceptions=True)
        await asyncio.sleep(0)
    return await waiting


async def test_one_that_fails_undoes_only_itself(database: Database) -> None:
    def insert_then_raise(connection: Connection) -> int:
        connection.execute(text("INSERT INTO note (text) VALUES ('undone')"))
        raise NotReady("on purpose")

    works: list[Statement] = [_note(f"n{number}") for number in range(20)]
    async with _held_writer(database):
        good = asyncio.gather(*(database.write(work) for work in works[:10]))
        bad = asyncio.gather(database.write(insert_then_raise), return_exceptions=True)
        more = asyncio.gather(*(database.write(work) for work in works[10:]))
        await asyncio.sleep(0)
    assert await good == await more == [1] * 10
    (error,) = await bad
    assert isinstance(error, NotReady)
    assert await _notes(database) == [f"n{number}" for number in range(20)]


async def test_a_group_shares_one_transaction(database: Database) -> None:
    async with _held_writer(database):
        together = asyncio.gather(
            *(database.write(lambda c: id(c.get_transaction())) for _ in range(5))
        )
        await asyncio.sleep(0)
    assert len(set(await together)) == 1


async def test_a_violated_constraint_in_a_group(database: Database) -> None:
    first, second, third = await _in_one_group(database, _note("a"), _note("a"), _note("b"))
    assert (first, third) == (1, 1)
    assert isinstance(second, ComfyserveError)
    assert second.code == "database_error"
    assert await _notes(database) == ["a", "b"]


class Notes:
    """A batch that writes notes, and tells how many came with each call."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, connection: Connection, notes: Sequence[str]) -> list[str]:
        self.sizes.append(len(notes))
        for note in notes:
            connection.execute(text("INSERT INTO note (text) VALUES (:note)"), {"note": note})
        return [note.upper() for note in notes]


async def test_items_side_by_side_are_done_by_one_call(database: Database) -> None:
    notes = Notes()
    async with _held_writer(database):
        items = asyncio.gather(*(database.write_item(notes, f"a{n}") for n in range(5)))
        other = asyncio.gather(database.write(_note("between")))
        more = asyncio.gather(*(database.write_item(notes, f"b{n}") for n in range(3)))
        await asyncio.sleep(0)
    assert await items == ["A0", "A1", "A2", "A3", "A4"]
    assert await more == ["B0", "B1", "B2"]
    assert list(await other) == [1]
    assert notes.sizes == [5, 3]
    assert await _notes(database) == ["a0", "a1", "a2", "a3", "a4", "between", "b0", "b1", "b2"]


async def test_what_one_turn_of_the_loop_hands_in_stays_together(database: Database) -> None:
    notes = Notes()
    await asyncio.gather(*(database.write_item(notes, f"a{n}") for n in range(5)))
    assert notes.sizes == [5]


async def test_an_item_that_cannot_be_done_undoes_only_itself(database: Database) -> None:
    notes = Notes()
    async with _held_writer(database):
        items = asyncio.gather(
            *(database.write_item(notes, note) for note in ("a", "b", "a", "c")),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
    first, second, third, fourth = await items
    assert (first, second, fourth) == ("A", "B", "C")
    assert isinstance(third, ComfyserveError)
    assert notes.sizes == [4, 1, 1, 1, 1]
    assert await _notes(database) == ["a", "b", "c"]
    assert await database.write_item(notes, "alone") == "ALONE"


async def test_one_that_fails_alone_changes_nothing(database: Database) -> None:
    def insert_then_raise(connection: Connection) -> int:
        connection.execute(text("INSERT INTO note (text) VALUES ('undone')"))
        raise NotReady("on purpose")

    with pytest.raises(NotReady, match="on purpose"):
        await database.write(insert_then_raise)
    assert await _notes(database) == []


async def test_a_canceled_caller_loses_no_write(database: Database) -> None:
    async with _held_writer(database):
        caller = asyncio.get_running_loop().create_task(database.write(_note("kept")))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
    await database.write(_note("next"))
    assert await _notes(database) == ["kept", "next"]


async def test_closing_finishes_what_was_handed_in(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    async with Database(url) as database:
        await database.write(_run("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT)"))
        waiting = asyncio.gather(*(database.write(_note(f"n{n}")) for n in range(300)))
        await asyncio.sleep(0)
        await database.aclose()
        assert await waiting == [1] * 300
        with pytest.raises(RuntimeError, match="closed"):
            await database.write(_note("late"))
    async with Database(url) as database:
        assert len(await _notes(database)) == 300
    assert not (tmp_path / "test.db-wal").exists()


async def test_many_writers_and_readers_at_once(database: Database) -> None:
    async def write_and_see(number: int) -> None:
        for turn in range(10):
            await database.write(_note(f"{number}.{turn}"))
            assert f"{number}.{turn}" in await _notes(database)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(write_and_see(number))
    assert len(await _notes(database)) == 200


async def test_a_reader_sees_one_snapshot_and_cannot_write(database: Database) -> None:
    loop = asyncio.get_running_loop()

    def look_twice(connection: Connection) -> tuple[int, int]:
        count = text("SELECT count(*) FROM note")
        before = connection.execute(count).scalar_one()
        asyncio.run_coroutine_threadsafe(database.write(_note("between")), loop).result(20)
        return before, connection.execute(count).scalar_one()

    assert await database.read(look_twice) == (0, 0)
    assert await _notes(database) == ["between"]
    with pytest.raises(ComfyserveError) as refused:
        await database.read(_note("no"))
    assert refused.value.code == "database_unreachable"


async def test_a_full_database_fails_only_what_does_not_fit(database: Database) -> None:
    pages = await database.write(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar_one() + 8)
    await database.write(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count = {pages}").all())
    large = _note("x" * 100_000)
    first, refused, last = await _in_one_group(database, _note("a"), large, _note("b"))
    assert (first, last) == (1, 1)
    assert isinstance(refused, StorageFull)
    assert "nothing was changed" in refused.message
    with pytest.raises(StorageFull):
        await database.write(large)
    assert await _notes(database) == ["a", "b"]
    await database.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 100000").all())
    await database.write(large)
    check = await database.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar())
    assert check == "ok"
    assert len(await _notes(database)) == 3


async def test_another_program_holds_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfyserve.store.sqlite._BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "test.db"
    async with Database(f"sqlite:///{path}") as database:
        other = sqlite3.connect(path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(NotReady) as refused:
                await database.write(_run("CREATE TABLE note (text TEXT)"))
            assert refused.value.code == "database_busy"
            other.execute("ROLLBACK")
            await database.write(_run("CREATE TABLE note (text TEXT)"))
        finally:
            other.close()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "postgresql://localhost/x", "x"]
)
def test_unsupported_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        Database(url)


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "test.db").write_bytes(b"this is a text, long enough to be one" * 40)
    with pytest.raises(ComfyserveError) as refused:
        async with Database(f"sqlite:///{tmp_path / 'test.db'}"):
            pass
    assert refused.value.code == "database_damaged"
    assert (tmp_path / "test.db").read_bytes().startswith(b"this is a text")


async def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ComfyserveError) as refused:
        async with Database(f"sqlite:///{tmp_path / 'no' / 'test.db'}"):
            pass
    assert refused.value.code == "database_unreachable"


async def test_a_path_with_special_characters(tmp_path: Path) -> None:
    path = tmp_path / "50% of #1? & more.db"
    async with Database(f"sqlite:///{path}") as database:
        await database.write(_run("CREATE TABLE note (text TEXT)"))
    assert os.listdir(tmp_path) == [path.name]
