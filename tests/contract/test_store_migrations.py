"""Migrations: a fresh database is a migrated one, and only that code opens it that knows it."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from comfyserve.domain.errors import ComfyserveError
from comfyserve.store import open_store
from comfyserve.store.engine import Database
from comfyserve.store.migrate import HEAD, SCRIPTS, VERSIONS, migrate, read_version, upgrade
from comfyserve.store.sqlite import connect_writer
from comfyserve.store.tables import metadata
from comfyserve.testing.store_data import a_new_job, furnish


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Connection]:
    with connect_writer(tmp_path / "fresh.db") as connection:
        migrate(connection)
        yield connection


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[Connection]:
    with connect_writer(tmp_path / "migrated.db") as connection:
        with connection.begin():
            upgrade(connection)
        yield connection


def _schema(connection: Connection) -> set[tuple[str, str, str]]:
    query = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    rows = connection.exec_driver_sql(query).all()
    return {(kind, name, "".join(sql.split())) for kind, name, sql in rows}


def test_fresh_is_migrated(fresh: Connection, migrated: Connection) -> None:
    assert _schema(fresh) == _schema(migrated)
    version = "SELECT version_num FROM alembic_version"
    for connection in (fresh, migrated):
        assert connection.exec_driver_sql(version).scalars().all() == [HEAD]


def test_the_migrations_make_the_tables_of_the_code(migrated: Connection) -> None:
    assert compare_metadata(MigrationContext.configure(migrated), metadata) == []


def test_the_code_knows_every_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(script.revision for script in scripts)[::-1] == VERSIONS


async def test_a_current_database_opens_without_alembic(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await furnish(store)
        await store.jobs.enqueue(a_new_job(), 10.0)
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from comfyserve.store import open_store\n"
        "async def main():\n"
        f"    async with open_store(Path({str(tmp_path)!r})) as store:\n"
        "        assert (await store.jobs.counts('dp_1')).queued == 1\n"
        "asyncio.run(main())\n"
        "assert not any(name.startswith('alembic') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)  # noqa: ASYNC221 - nothing else waits


async def _refusal(path: Path) -> ComfyserveError:
    with pytest.raises(ComfyserveError) as refused:
        async with Database(f"sqlite:///{path}"):
            pass
    return refused.value


async def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    async with Database(f"sqlite:///{path}"):
        pass
    with sqlite3.connect(path) as other:
        other.execute("UPDATE alembic_version SET version_num = 'v9999'")
    other.close()
    refused = await _refusal(path)
    assert refused.code == "database_newer"
    assert "v9999" in refused.message
    assert HEAD in refused.message


async def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE recipe (id INTEGER)")
    other.close()
    assert (await _refusal(path)).code == "database_foreign"


def test_an_older_database_is_brought_up_to_date(tmp_path: Path, fresh: Connection) -> None:
    with connect_writer(tmp_path / "older.db") as connection:
        with connection.begin():
            connection.exec_driver_sql(
                "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
                "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
            )
        migrate(connection)
        assert _schema(connection) == _schema(fresh)
        assert read_version(connection) == HEAD


def test_what_the_first_schema_held_is_kept(tmp_path: Path, fresh: Connection) -> None:
    path = tmp_path / "first.db"
    with connect_writer(path) as connection:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["connection"] = connection
        with connection.begin():
            command.upgrade(config, "v0001")
            connection.exec_driver_sql(
                "INSERT INTO deployment (id, name, state, revision_id, created_at, updated_at) "
                "VALUES ('dp_1', 'a', 'active', 'rv_1', 1, 1)"
            )
            connection.exec_driver_sql(
                "INSERT INTO asset (id, deployment_id, node_id, name, subfolder, type, digest, "
                "size_bytes, content_type, created_at, family, ordinal) VALUES "
                "('as_1', 'dp_1', '', 'a.png', '', 'output', 'd', 3, 'image/png', 1, 'a', 0)"
            )
        migrate(connection)
        assert _schema(connection) == _schema(fresh)
        row = connection.exec_driver_sql("SELECT name, file_path, tags FROM asset").one()
        assert tuple(row) == ("a.png", None, None)
