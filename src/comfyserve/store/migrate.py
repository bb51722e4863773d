"""Bring a database to the schema of this code. Alembic is only imported where it has work."""

from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    inspect,
    select,
)

from comfyserve.domain.errors import ComfyserveError
from comfyserve.store.webhook_tables import metadata

VERSIONS = ("v0001", "v0002", "v0003", "v0004", "v0005", "v0006", "v0007", "v0008", "v0009")
HEAD = VERSIONS[-1]
SCRIPTS = Path(__file__).parent / "migrations"

# Alembic's own table, as Alembic makes it.
_VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
_UNVERSIONED = ""


def migrate(connection: Connection) -> None:
    """Make an empty database, or bring an older one up to date, in one transaction.

    Raises ComfyserveError for a database that a newer comfyserve has written.
    """
    with connection.begin():
        found = read_version(connection)
        if found == HEAD:
            return
        if found is None:
            metadata.create_all(connection)
            _VERSION.create(connection)
            connection.execute(insert(_VERSION).values(version_num=HEAD))
        elif found == _UNVERSIONED or found in VERSIONS:
            upgrade(connection)
        else:
            raise ComfyserveError(
                f"The database has schema version '{found}', this comfyserve knows up to "
                f"'{HEAD}': it was written by a newer version. Install that one or use another "
                "--home.",
                code="database_newer",
            )


def read_version(connection: Connection) -> str | None:
    """The schema version of a database, empty before the first one, None if there is nothing yet."""
    tables = inspect(connection)
    if not tables.has_table(_VERSION.name):
        if tables.get_table_names():
            raise ComfyserveError(
                "The database has tables, but not those of comfyserve. Use another --db.",
                code="database_foreign",
            )
        return None
    version: str | None = connection.execute(select(_VERSION.c.version_num)).scalar()
    return version or _UNVERSIONED


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, inside the caller's transaction."""
    from alembic import command  # noqa: PLC0415 - costs 100 ms, and is seldom needed
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
