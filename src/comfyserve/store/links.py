"""Links to outputs: how often those of each were revoked."""

from sqlalchemy import Connection, bindparam, insert, select, update

from comfyserve.store.engine import Database
from comfyserve.store.tables import link_revocation

_l = link_revocation.c
_GENERATION = select(_l.generation).where(_l.asset_id == bindparam("at"))
_INSERT = insert(link_revocation)
_NEXT = (
    update(link_revocation)
    .where(_l.asset_id == bindparam("at"))
    .values(generation=_l.generation + 1)
)


class LinkStore:
    """A link carries the generation in which it was signed; only the current one is good."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def generation(self, asset_id: str) -> int:
        """The current generation; 0 before anything was revoked."""
        return await self._database.read(lambda connection: _generation(connection, asset_id))

    async def revoke(self, asset_id: str) -> int:
        """Make all links to this asset worthless; return the new generation."""
        return await self._database.write(lambda connection: _revoke(connection, asset_id))


def _generation(connection: Connection, asset_id: str) -> int:
    return int(connection.execute(_GENERATION, {"at": asset_id}).scalar() or 0)


def _revoke(connection: Connection, asset_id: str) -> int:
    if connection.execute(_NEXT, {"at": asset_id}).rowcount == 0:
        connection.execute(_INSERT, {"asset_id": asset_id, "generation": 1})
    return _generation(connection, asset_id)
