"""Volumes by name: which ones there are. Their files lie in the home, under `volumes`."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, select

from comfyserve.domain.errors import Conflict, NotFound
from comfyserve.domain.ids import ENTROPY_BYTES, Prefix, make_id
from comfyserve.domain.volume import check_volume_name
from comfyserve.store.engine import Database
from comfyserve.store.tables import volume


@dataclass(frozen=True, slots=True)
class Volume:
    """A named directory."""

    id: str
    name: str
    created_at: float


_COLUMNS = (volume.c.id, volume.c.name, volume.c.created_at)
_ALL = select(*_COLUMNS).order_by(volume.c.name)
_BY_NAME = select(*_COLUMNS).where(volume.c.name == bindparam("of"))
_INSERT = insert(volume)
_DELETE = delete(volume).where(volume.c.name == bindparam("of"))


class VolumeStore:
    """The names; the directories are their owner's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ensure(self, name: str, now: float) -> Volume:
        """The volume of that name, made if there is none. Raises InvalidInput."""
        check_volume_name(name)
        return await self._database.write(lambda connection: _ensure(connection, name, now))

    async def create(self, name: str, now: float) -> Volume:
        """Make a volume. Raises InvalidInput and Conflict `volume_exists`."""
        check_volume_name(name)

        def work(connection: Connection) -> Volume:
            if connection.execute(_BY_NAME, {"of": name}).one_or_none() is not None:
                raise Conflict(f"there is a volume '{name}' already", code="volume_exists")
            return _ensure(connection, name, now)

        return await self._database.write(work)

    async def list(self) -> Sequence[Volume]:
        """All volumes by name."""
        return await self._database.read(
            lambda connection: [Volume(*row) for row in connection.execute(_ALL)]
        )

    async def find(self, name: str) -> Volume:
        """The volume of that name. Raises NotFound naming what there is."""

        def work(connection: Connection) -> Volume:
            row = connection.execute(_BY_NAME, {"of": name}).one_or_none()
            if row is None:
                known = [each.name for each in connection.execute(_ALL)]
                raise NotFound(
                    f"there is no volume '{name[:80]}'; there is: {', '.join(known) or 'none yet'}",
                    code="volume_not_found",
                )
            return Volume(*row)

        return await self._database.read(work)

    async def delete(self, name: str) -> None:
        """Forget a volume; its files are for the caller to remove."""
        await self._database.write(lambda connection: connection.execute(_DELETE, {"of": name}))


def _ensure(connection: Connection, name: str, now: float) -> Volume:
    row = connection.execute(_BY_NAME, {"of": name}).one_or_none()
    if row is not None:
        return Volume(*row)
    made = Volume(make_id(Prefix.VOLUME, secrets.token_bytes(ENTROPY_BYTES)), name, now)
    values = {"id": made.id, "name": name, "created_at": now}
    connection.execute(_INSERT, values)
    return made
