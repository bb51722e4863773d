"""SQLite as this store uses it: how connections are made and what its errors mean."""

import errno
import sqlite3
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import ClauseElement, Connection, Engine, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.compiler import SQLCompiler

from comfyserve.domain.errors import ComfyserveError, NotReady, StorageFull

_BUSY_TIMEOUT_S = 10.0
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# Few sizes, so that the driver keeps few statements.
_ROWS_AT_ONCE = (16, 4, 1)
_PRAGMAS = {
    "foreign_keys": "ON",
    "temp_store": "MEMORY",
    "cache_size": "-8000",
}
_WRITER_PRAGMAS = {
    "journal_mode": "WAL",
    "synchronous": "FULL",
    # Pages; larger than the default, because each commit of new jobs touches the same ones again.
    "wal_autocheckpoint": "4000",
    # A burst must not leave a log of its full size behind for ever.
    "journal_size_limit": str(64 * 1024 * 1024),
}


def connect_writer(path: Path) -> Connection:
    """Open the one connection that writes; its transactions take the write lock at once.

    A new file is its owner's alone, and so are the files that SQLite puts beside it.
    """
    try:
        path.touch(mode=0o600)
    except OSError as error:
        raise _unopened(error) from error
    return _connect(path, "rwc", "BEGIN IMMEDIATE", _WRITER_PRAGMAS)


def connect_reader(path: Path) -> Connection:
    """Open a connection that can only read; a transaction sees one snapshot."""
    return _connect(path, "ro", "BEGIN", {})


def _connect(path: Path, mode: str, begin: str, pragmas: dict[str, str]) -> Connection:
    address = f"file:{quote(str(path))}?mode={mode}"

    def open_file() -> sqlite3.Connection:
        # Transactions are begun here and not by the driver; a connection is made in one thread
        # and used in another one, but never by two at a time.
        connection = sqlite3.connect(
            address,
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        for name, value in {**_PRAGMAS, **pragmas}.items():
            connection.execute(f"PRAGMA {name} = {value}").fetchall()
        return connection

    engine = create_engine("sqlite://", creator=open_file, poolclass=NullPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return _check_out(engine)


def _unopened(error: OSError) -> ComfyserveError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFull(f"The disk of the database is full: {error}.")
    return ComfyserveError(
        f"The database file cannot be opened for writing: {error}.", code="database_unreachable"
    )


def _check_out(engine: Engine) -> Connection:
    try:
        return engine.connect()
    except sqlite3.Error as error:
        raise translate_driver(error) from error
    except DBAPIError as error:
        raise translate(error) from error


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, for savepoints without SQLAlchemy's bookkeeping."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"not a SQLite connection: {driver!r}")
    return driver


class Prepared:
    """A statement that is compiled once and run by the driver itself.

    For what each accepted job needs: Core's bookkeeping costs several times what SQLite does there.
    What it raises is the driver's; `translate` knows that too.
    """

    def __init__(self, statement: ClauseElement, *columns: str) -> None:
        """`columns`: those that an INSERT gives values for."""
        self.statement = statement
        self._columns = columns

    def fetch(self, connection: Connection, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a column
        """Run it once; the first column of its first row, None where there is no row."""
        text, names, literals = self._compiled
        given = {**literals, **values}
        row = driver_of(connection).execute(text, [given[name] for name in names]).fetchall()
        return row[0][0] if row else None

    def insert(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows of values, in the order of the columns; many of them with one statement.

        The driver gives up the interpreter lock for each statement, and then waits for its turn.
        """
        driver, done = driver_of(connection), 0
        for count in _ROWS_AT_ONCE:
            while len(rows) - done >= count:
                some = rows[done : done + count]
                driver.execute(self._insert_text(count), [*chain.from_iterable(some)])
                done += count

    def _insert_text(self, count: int) -> str:
        text = self._compiled[0]
        return text + f", {text.rpartition(' VALUES ')[2]}" * (count - 1)

    @cached_property
    def _compiled(self) -> tuple[str, tuple[str, ...], Mapping[str, Any]]:
        """The text, the names of its parameters in their order, and the values that it brings along."""
        columns = list(self._columns) or None
        compiled = self.statement.compile(dialect=sqlite.dialect(), column_keys=columns)
        if not isinstance(compiled, SQLCompiler):
            raise TypeError(f"not a statement: {self.statement!r}")
        names = tuple(compiled.positiontup or ())
        if self._columns and names != self._columns:
            raise ValueError(f"the columns are not in the order of the table: {names}")
        return str(compiled), names, compiled.params


def translate(error: BaseException) -> BaseException:
    """Turn what the database library raises into an error of the domain; keep anything else."""
    if isinstance(error, DBAPIError) and isinstance(error.orig, sqlite3.Error):
        return translate_driver(error.orig)
    if isinstance(error, sqlite3.Error):
        return translate_driver(error)
    return error


def translate_driver(error: sqlite3.Error) -> ComfyserveError:
    """The same for an error of the driver."""
    extended: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    code = extended & 0xFF
    translated: ComfyserveError
    if code == sqlite3.SQLITE_FULL:
        translated = StorageFull(
            "The disk of the database is full; nothing was changed. Free some space and try again."
        )
    elif code == sqlite3.SQLITE_IOERR:
        translated = StorageFull(
            f"The disk of the database cannot be written or read ({error}); nothing was changed."
        )
    elif code in _BUSY:
        translated = NotReady(
            "The database is locked by another program; try again.", code="database_busy"
        )
    elif code in _DAMAGED:
        translated = ComfyserveError(
            f"The database file is damaged or is not a database: {error}.", code="database_damaged"
        )
    elif code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
        translated = ComfyserveError(
            f"The database file cannot be opened for writing: {error}.",
            code="database_unreachable",
        )
    else:
        translated = ComfyserveError(
            f"The database refused a statement: {error}.", code="database_error"
        )
    translated.__cause__ = error
    return translated
