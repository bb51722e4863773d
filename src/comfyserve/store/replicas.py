"""Replica records, kept for adoption after a restart and for the history of a deployment."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, insert, select, update

from comfyserve.domain.replica import LIVE, Replica
from comfyserve.store.engine import Database
from comfyserve.store.rows import REPLICA_COLUMNS, replica_from, replica_values
from comfyserve.store.tables import replica

_LIVE = sorted(state.value for state in LIVE)
_BY_ID = select(*REPLICA_COLUMNS).where(replica.c.id == bindparam("id"))
_ALL = select(*REPLICA_COLUMNS).order_by(replica.c.created_at, replica.c.id)
_UPDATE = update(replica).where(replica.c.id == bindparam("at"))
_INSERT = insert(replica)


class ReplicaStore:
    """Replicas by id; the record is the truth after a crash."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, replica: Replica) -> None:
        """Store the record as it is now, new or known."""
        await self._database.write(lambda connection: _save(connection, replica))

    async def get(self, replica_id: str) -> Replica | None:
        """The replica with this id."""

        def work(connection: Connection) -> Replica | None:
            row = connection.execute(_BY_ID, {"id": replica_id}).one_or_none()
            return None if row is None else replica_from(row)

        return await self._database.read(work)

    async def list(
        self, deployment_id: str | None = None, *, live_only: bool = False
    ) -> Sequence[Replica]:
        """Replicas in the order in which they were made."""
        query = _ALL
        if deployment_id is not None:
            query = query.where(replica.c.deployment_id == deployment_id)
        if live_only:
            query = query.where(replica.c.state.in_(_LIVE))
        return await self._database.read(
            lambda connection: [replica_from(row) for row in connection.execute(query)]
        )


def _save(connection: Connection, record: Replica) -> None:
    values = replica_values(record)
    changed = connection.execute(_UPDATE, {**values, "at": record.id}).rowcount
    if changed == 0:
        connection.execute(_INSERT, {**values, "id": record.id})
