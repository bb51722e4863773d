"""Typed endpoints: each publish is a new version, and any version can be made the current one."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from comfyserve.domain.errors import NotFound
from comfyserve.domain.typed import EndpointDocument, EndpointVersion, TypedEndpoint
from comfyserve.store.engine import Database
from comfyserve.store.rows import encode
from comfyserve.store.tables import typed_endpoint, typed_version

_e, _v = typed_endpoint.c, typed_version.c
_VERSION_COLUMNS = (_v.number, _v.revision_id, _v.created_at, _v.principal)
_ROWS = select(
    _e.id, _e.deployment_id, _e.name, _e.created_at, _e.updated_at, *_VERSION_COLUMNS
).join(typed_version, (_v.endpoint_id == _e.id) & (_v.number == _e.version))
_BY_NAME = _ROWS.where(_e.deployment_id == bindparam("deployment_id"), _e.name == bindparam("name"))
_OF_DEPLOYMENT = _ROWS.where(_e.deployment_id == bindparam("deployment_id")).order_by(_e.name)
_VERSIONS = (
    select(*_VERSION_COLUMNS).where(_v.endpoint_id == bindparam("at")).order_by(_v.number.desc())
)
_DOCUMENT = select(_v.document).where(
    _v.endpoint_id == bindparam("at"), _v.number == bindparam("number")
)
_LAST_NUMBER = select(func.max(_v.number)).where(_v.endpoint_id == bindparam("at"))
_INSERT = insert(typed_endpoint)
_INSERT_VERSION = insert(typed_version)
_POINT = (
    update(typed_endpoint)
    .where(_e.id == bindparam("at"))
    .values(version=bindparam("to"), updated_at=bindparam("now"))
)
_DELETE_VERSIONS = delete(typed_version).where(_v.endpoint_id == bindparam("at"))
_DELETE = delete(typed_endpoint).where(_e.id == bindparam("at"))
_decode = msgspec.json.Decoder(EndpointDocument).decode


class EndpointStore:
    """Typed endpoints of deployments, by name. Times are seconds since the epoch."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish(
        self, new: TypedEndpoint, document: EndpointDocument, now: float
    ) -> TypedEndpoint:
        """Store a version as the next one, and make it current.

        The number of `new.version` does not matter; its id counts if the name is new.
        """
        data = encode(document)
        return await self._database.write(lambda connection: _publish(connection, new, data, now))

    async def use_version(self, endpoint: TypedEndpoint, number: int, now: float) -> TypedEndpoint:
        """Make a version the current one. Raises NotFound `version_not_found`."""
        return await self._database.write(
            lambda connection: _use_version(connection, endpoint, number, now)
        )

    async def delete(self, endpoint: TypedEndpoint) -> None:
        """Delete an endpoint with its versions. Its jobs stay."""

        def work(connection: Connection) -> None:
            connection.execute(_DELETE_VERSIONS, {"at": endpoint.id})
            connection.execute(_DELETE, {"at": endpoint.id})

        await self._database.write(work)

    async def find(self, deployment_id: str, name: str) -> TypedEndpoint | None:
        """The endpoint of a deployment that has this name."""
        return await self._database.read(lambda connection: _find(connection, deployment_id, name))

    async def list(self, deployment_id: str) -> Sequence[TypedEndpoint]:
        """A deployment's endpoints, by name."""
        sought = {"deployment_id": deployment_id}
        return await self._database.read(
            lambda connection: [
                _endpoint(row) for row in connection.execute(_OF_DEPLOYMENT, sought)
            ]
        )

    async def versions(self, endpoint: TypedEndpoint) -> Sequence[EndpointVersion]:
        """All versions, the newest first."""
        return await self._database.read(
            lambda connection: [
                EndpointVersion(*row) for row in connection.execute(_VERSIONS, {"at": endpoint.id})
            ]
        )

    async def document(self, endpoint: TypedEndpoint) -> EndpointDocument:
        """What the current version runs. Raises NotFound for one that was deleted meanwhile."""
        sought = {"at": endpoint.id, "number": endpoint.version.number}
        data = await self._database.read(
            lambda connection: connection.execute(_DOCUMENT, sought).scalar()
        )
        if data is None:
            raise _unknown(endpoint.name)
        return _decode(data)


def _publish(
    connection: Connection, new: TypedEndpoint, document: bytes, now: float
) -> TypedEndpoint:
    known = _find(connection, new.deployment_id, new.name)
    endpoint_id = new.id if known is None else known.id
    last: int | None = connection.execute(_LAST_NUMBER, {"at": endpoint_id}).scalar()
    number = (last or 0) + 1
    if known is None:
        values = {
            "id": new.id,
            "deployment_id": new.deployment_id,
            "name": new.name,
            "version": number,
            "created_at": now,
            "updated_at": now,
        }
        connection.execute(_INSERT, values)
    version = {
        "endpoint_id": endpoint_id,
        "number": number,
        "revision_id": new.version.revision_id,
        "created_at": now,
        "principal": new.version.principal,
        "document": document,
    }
    connection.execute(_INSERT_VERSION, version)
    connection.execute(_POINT, {"at": endpoint_id, "to": number, "now": now})
    return _present(connection, new.deployment_id, new.name)


def _use_version(
    connection: Connection, endpoint: TypedEndpoint, number: int, now: float
) -> TypedEndpoint:
    sought = {"at": endpoint.id, "number": number}
    if connection.execute(_DOCUMENT, sought).one_or_none() is None:
        raise NotFound(
            f"'{endpoint.name}' has no version {number}; `comfyserve endpoint versions "
            f"{endpoint.name}` lists those that it has",
            code="version_not_found",
        )
    connection.execute(_POINT, {"at": endpoint.id, "to": number, "now": now})
    return _present(connection, endpoint.deployment_id, endpoint.name)


def _find(connection: Connection, deployment_id: str, name: str) -> TypedEndpoint | None:
    sought = {"deployment_id": deployment_id, "name": name}
    row = connection.execute(_BY_NAME, sought).one_or_none()
    return None if row is None else _endpoint(row)


def _present(connection: Connection, deployment_id: str, name: str) -> TypedEndpoint:
    found = _find(connection, deployment_id, name)
    if found is None:
        raise _unknown(name)
    return found


def _endpoint(row: Iterable[Any]) -> TypedEndpoint:
    id_, deployment_id, name, created_at, updated_at, *version = row
    return TypedEndpoint(
        id=id_,
        deployment_id=deployment_id,
        name=name,
        version=EndpointVersion(*version),
        created_at=created_at,
        updated_at=updated_at,
    )


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no endpoint '{name[:80]}'.", code="endpoint_not_found")
