"""Deployments and their revisions."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, bindparam, func, insert, select, update

from comfyserve.domain.deployment import Deployment, DeploymentState, Revision
from comfyserve.domain.errors import Conflict, NotFound
from comfyserve.store.engine import Database
from comfyserve.store.rows import (
    DEPLOYMENT_COLUMNS,
    REVISION_COLUMNS,
    deployment_from,
    encode_text,
    revision_from,
)
from comfyserve.store.tables import deployment, revision, revision_source

_ROWS = select(*DEPLOYMENT_COLUMNS, *REVISION_COLUMNS).join(
    revision, revision.c.id == deployment.c.revision_id
)
_is_live = deployment.c.state != DeploymentState.DELETED.value
_BY_ID = _ROWS.where(deployment.c.id == bindparam("id"))
_BY_NAME = _ROWS.where(deployment.c.name == bindparam("name"), _is_live)
_LIVE = _ROWS.where(_is_live).order_by(deployment.c.name)
_live_name = select(deployment.c.name).where(_is_live)
_GONE_NAMES = select(deployment.c.name).where(deployment.c.name.not_in(_live_name)).distinct()
_REVISION = select(revision.c.id).where(
    revision.c.id == bindparam("to"), revision.c.deployment_id == bindparam("at")
)
_REVISIONS = (
    select(*REVISION_COLUMNS)
    .where(revision.c.deployment_id == bindparam("deployment_id"))
    .order_by(revision.c.number)
)
_LAST_NUMBER = select(func.max(revision.c.number)).where(
    revision.c.deployment_id == bindparam("deployment_id")
)
_INSERT = insert(deployment)
_INSERT_REVISION = insert(revision)
_INSERT_SOURCE = insert(revision_source)
_POINT = (
    update(deployment)
    .where(deployment.c.id == bindparam("at"), _is_live)
    .values(revision_id=bindparam("to"), updated_at=bindparam("now"))
)
_SET_STATE = (
    update(deployment)
    .where(deployment.c.id == bindparam("at"), _is_live)
    .values(state=bindparam("to"), updated_at=bindparam("now"))
)


class DeploymentStore:
    """Deployments by id and by name; a deleted one keeps its row and frees its name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, deployment: Deployment) -> Deployment:
        """Store a deployment with its first revision.

        Raises Conflict `deployment_exists` if a live one has the name.
        """
        return await self._database.write(lambda connection: _create(connection, deployment))

    async def add_revision(self, deployment_id: str, revision: Revision, now: float) -> Deployment:
        """Make `revision` the current one; it gets the next number. Raises NotFound."""
        return await self._database.write(
            lambda connection: _add_revision(connection, deployment_id, revision, now)
        )

    async def use_revision(self, deployment_id: str, revision_id: str, now: float) -> Deployment:
        """Make a revision that there is already the current one. Raises NotFound."""
        to = {"at": deployment_id, "to": revision_id, "now": now}

        def work(connection: Connection) -> Deployment:
            if connection.execute(_REVISION, to).one_or_none() is None:
                raise NotFound(
                    f"There is no revision '{revision_id}' of this deployment.",
                    code="revision_not_found",
                )
            if connection.execute(_POINT, to).rowcount == 0:
                raise _unknown(deployment_id)
            return _present(connection, deployment_id)

        return await self._database.write(work)

    async def gone_names(self) -> Sequence[str]:
        """Names of deleted deployments that no live one has taken."""
        return await self._database.read(
            lambda connection: list(connection.execute(_GONE_NAMES).scalars())
        )

    async def set_state(self, deployment_id: str, state: DeploymentState, now: float) -> Deployment:
        """Start, stop or delete a deployment. Raises NotFound, also for a deleted one."""
        return await self._database.write(
            lambda connection: _set_state(connection, deployment_id, state, now)
        )

    async def get(self, deployment_id: str) -> Deployment | None:
        """The deployment with this id, deleted or not."""
        return await self._database.read(lambda connection: _get(connection, deployment_id))

    async def by_name(self, name: str) -> Deployment | None:
        """The live deployment with this name."""
        return await self._database.read(lambda connection: _by_name(connection, name))

    async def revisions(self, deployment_id: str) -> Sequence[Revision]:
        """All revisions of a deployment, oldest first."""
        sought = {"deployment_id": deployment_id}
        return await self._database.read(
            lambda connection: [
                revision_from(row) for row in connection.execute(_REVISIONS, sought)
            ]
        )

    async def list(self) -> Sequence[Deployment]:
        """All live deployments, by name."""
        return await self._database.read(
            lambda connection: [deployment_from(row) for row in connection.execute(_LIVE)]
        )


def _create(connection: Connection, record: Deployment) -> Deployment:
    if _by_name(connection, record.name) is not None:
        raise Conflict(
            f"There is a deployment named '{record.name}' already; update or delete it, or "
            "choose another name.",
            code="deployment_exists",
        )
    connection.execute(
        _INSERT,
        {
            "id": record.id,
            "name": record.name,
            "state": record.state.value,
            "revision_id": record.revision.id,
            "created_at": record.created_at,
            "updated_at": record.updated_at,
        },
    )
    _insert_revision(connection, record.revision)
    return record


def _add_revision(
    connection: Connection, deployment_id: str, made: Revision, now: float
) -> Deployment:
    to = {"at": deployment_id, "to": made.id, "now": now}
    if connection.execute(_POINT, to).rowcount == 0:
        raise _unknown(deployment_id)
    last: int = connection.execute(_LAST_NUMBER, {"deployment_id": deployment_id}).scalar_one()
    _insert_revision(connection, replace(made, number=last + 1, deployment_id=deployment_id))
    return _present(connection, deployment_id)


def _set_state(
    connection: Connection, deployment_id: str, state: DeploymentState, now: float
) -> Deployment:
    to = {"at": deployment_id, "to": state.value, "now": now}
    if connection.execute(_SET_STATE, to).rowcount == 0:
        raise _unknown(deployment_id)
    return _present(connection, deployment_id)


def _get(connection: Connection, deployment_id: str) -> Deployment | None:
    row = connection.execute(_BY_ID, {"id": deployment_id}).one_or_none()
    return None if row is None else deployment_from(row)


def _by_name(connection: Connection, name: str) -> Deployment | None:
    row = connection.execute(_BY_NAME, {"name": name}).one_or_none()
    return None if row is None else deployment_from(row)


def _present(connection: Connection, deployment_id: str) -> Deployment:
    found = _get(connection, deployment_id)
    if found is None:
        raise _unknown(deployment_id)
    return found


def _insert_revision(connection: Connection, made: Revision) -> None:
    connection.execute(
        _INSERT_REVISION,
        {
            "id": made.id,
            "deployment_id": made.deployment_id,
            "number": made.number,
            "spec": encode_text(made.spec),
            "engine_version": made.engine_version,
            "snapshot_digest": made.snapshot_digest,
            "created_at": made.created_at,
        },
    )
    if (app := made.spec.engine.app) is not None:
        connection.execute(_INSERT_SOURCE, {"revision_id": made.id, "digest": app.source})


def _unknown(deployment_id: str) -> NotFound:
    return NotFound(f"There is no deployment '{deployment_id}'.", code="deployment_not_found")
