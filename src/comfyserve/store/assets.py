"""Assets: stored bytes under a public name that is unique in its deployment's folder."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, select

from comfyserve.store.asset_names import alternative, alternatives_of, is_counted, place_of
from comfyserve.store.engine import Database
from comfyserve.store.outbox_entry import record_output
from comfyserve.store.rows import chunked
from comfyserve.store.tables import asset, released_blob, revision, revision_source


@dataclass(frozen=True, slots=True)
class NewAsset:
    """An asset to be: `name` is what is wished for. Times are seconds since the epoch."""

    deployment_id: str
    job_id: str | None
    node_id: str
    name: str
    subfolder: str
    type: str
    digest: str
    size_bytes: int
    content_type: str
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Asset:
    """Stored bytes with a public name.

    `type` is ComfyUI's folder (output, temp or input), or `upload`: see `store/references.py`.
    """

    id: str
    deployment_id: str
    job_id: str | None
    node_id: str
    name: str
    subfolder: str
    type: str
    digest: str
    size_bytes: int
    content_type: str
    created_at: float
    expires_at: float | None
    file_path: str | None = None

    def is_live(self, now: float) -> bool:
        """Whether it has not expired."""
        return self.expires_at is None or self.expires_at > now


_a = asset.c
ASSET_COLUMNS = (
    _a.id,
    _a.deployment_id,
    _a.job_id,
    _a.node_id,
    _a.name,
    _a.subfolder,
    _a.type,
    _a.digest,
    _a.size_bytes,
    _a.content_type,
    _a.created_at,
    _a.expires_at,
    _a.file_path,
)
_ROWS = select(*ASSET_COLUMNS)
_in_folder = (
    (_a.deployment_id == bindparam("deployment_id"))
    & (_a.type == bindparam("type"))
    & (_a.subfolder == bindparam("subfolder"))
)
_in_family = _in_folder & (_a.family == bindparam("family"))
_BY_NAME = _ROWS.where(_in_folder, _a.name == bindparam("name"))
_BY_ID = _ROWS.where(_a.id == bindparam("id"))
_BY_DIGEST = (
    _ROWS.where(_a.deployment_id == bindparam("deployment_id"), _a.digest == bindparam("digest"))
    .order_by(_a.seq)
    .limit(1)
)
_BY_JOB = _ROWS.where(_a.job_id == bindparam("job_id")).order_by(_a.seq)
_SAME_BYTES = (
    _ROWS.where(_in_family, _a.digest == bindparam("digest")).order_by(_a.ordinal).limit(1)
)
_LAST_ORDINAL = select(func.max(_a.ordinal)).where(_in_family)
_next = asset.alias("next")
_FIRST_GAP = (
    select(_a.ordinal + 1)
    .where(
        _in_family,
        _a.ordinal >= 1,
        ~exists().where(
            _next.c.deployment_id == _a.deployment_id,
            _next.c.type == _a.type,
            _next.c.subfolder == _a.subfolder,
            _next.c.family == _a.family,
            _next.c.ordinal == _a.ordinal + 1,
        ),
    )
    .order_by(_a.ordinal)
    .limit(1)
)
_HAS_ORDINAL = select(_a.seq).where(_in_family, _a.ordinal == bindparam("ordinal")).limit(1)
_INSERT = insert(asset)
_DELETE = delete(asset).where(_a.id == bindparam("at"))
_EXPIRED = select(_a.digest).where(_a.expires_at <= bindparam("now"))
_DELETE_EXPIRED = delete(asset).where(_a.expires_at <= bindparam("now"))
_OF_JOB = select(_a.digest).where(_a.job_id == bindparam("job_id"))
_DELETE_OF_JOB = delete(asset).where(_a.job_id == bindparam("job_id"))
_is_used = (
    exists().where(_a.digest == released_blob.c.digest)
    | exists().where(revision.c.snapshot_digest == released_blob.c.digest)
    | exists().where(revision_source.c.digest == released_blob.c.digest)
)
_KEEP_USED = delete(released_blob).where(_is_used)
_RELEASED = select(released_blob.c.digest).order_by(released_blob.c.digest)
_IS_RELEASED = _RELEASED.where(released_blob.c.digest == bindparam("digest"))
_INSERT_RELEASED = insert(released_blob)
_FORGET = delete(released_blob).where(
    released_blob.c.digest.in_(bindparam("digests", expanding=True))
)
_REFERENCED = select(
    exists().where(_a.digest == bindparam("digest"))
    | exists().where(revision.c.snapshot_digest == bindparam("digest"))
    | exists().where(revision_source.c.digest == bindparam("digest"))
)


class AssetStore:
    """Asset rows. The bytes are in the blob store, under the digest."""

    def __init__(self, database: Database, news: asyncio.Event) -> None:
        self._database = database
        self._news = news

    async def add(self, new: NewAsset, now: float) -> Asset:
        """Store an asset under the name that it wishes, or the next free one.

        `prefix_00001_.png` becomes the prefix's next counter, any other `name.ext` becomes
        `name (1).ext` and so on, as with ComfyUI.
        """
        return (await self.add_many([new], now))[0]

    async def add_many(self, news: Sequence[NewAsset], now: float) -> Sequence[Asset]:
        """Store several assets, or none of them."""
        added = await self._database.write(
            lambda connection: [add_asset(connection, new, now) for new in news]
        )
        self._news.set()
        return added

    async def add_upload(self, new: NewAsset, now: float, *, overwrite: bool = False) -> Asset:
        """Store an upload by ComfyUI's rules: the same bytes under one of its names stay one asset.

        With `overwrite` the name is kept and what had it is replaced.
        """
        return await self._database.write(
            lambda connection: _add_upload(connection, new, now, overwrite=overwrite)
        )

    async def find(
        self,
        deployment_id: str,
        name: str,
        subfolder: str,
        type: str,  # noqa: A002 - ComfyUI's word
    ) -> Asset | None:
        """The asset with this public name."""
        folder: dict[str, object] = {
            "deployment_id": deployment_id,
            "type": type,
            "subfolder": subfolder,
        }
        return await self._database.read(lambda connection: _find(connection, folder, name))

    async def get(self, asset_id: str) -> Asset | None:
        """The asset with this id."""
        rows = await self._rows(_BY_ID, {"id": asset_id})
        return rows[0] if rows else None

    async def find_digest(self, deployment_id: str, digest: str) -> Asset | None:
        """The deployment's oldest asset with these bytes."""
        rows = await self._rows(_BY_DIGEST, {"deployment_id": deployment_id, "digest": digest})
        return rows[0] if rows else None

    async def of_job(self, job_id: str) -> Sequence[Asset]:
        """What a job made, in the order in which it was stored."""
        return await self._rows(_BY_JOB, {"job_id": job_id})

    async def inputs(self, deployment_id: str) -> Sequence[Asset]:
        """A deployment's uploads, by folder and name."""
        query = _ROWS.where(_a.deployment_id == deployment_id, _a.type == "input")
        return await self._rows(query.order_by(_a.subfolder, _a.name), {})

    async def delete(self, asset_id: str) -> bool:
        """Delete an asset; False if there is none. Its bytes go once nothing else has them."""
        return await self._database.write(lambda connection: _delete(connection, asset_id))

    async def delete_expired(self, now: float) -> Sequence[str]:
        """Delete what has expired; return all digests that nothing refers to any more.

        They are returned again until `forget` says that the bytes are gone.
        """
        return await self._database.write(lambda connection: _delete_expired(connection, now))

    async def release(self, digests: Sequence[str]) -> None:
        """Nothing refers to these bytes yet: they go in an hour, unless something does by then."""
        await self._database.write(lambda connection: _release(connection, digests))

    async def forget(self, digests: Sequence[str]) -> None:
        """The bytes of these digests are deleted."""
        await self._database.write(lambda connection: _forget(connection, digests))

    async def referenced(self, digest: str) -> bool:
        """Whether an asset or a revision needs these bytes."""
        return await self._database.read(
            lambda connection: bool(connection.execute(_REFERENCED, {"digest": digest}).scalar())
        )

    async def _rows(self, query: Any, sought: dict[str, object]) -> list[Asset]:  # noqa: ANN401
        return await self._database.read(
            lambda connection: [_asset_from(row) for row in connection.execute(query, sought)]
        )


def assets_of(connection: Connection, job_id: str) -> Sequence[Asset]:
    """What a job made, in the order in which it was stored."""
    return [_asset_from(row) for row in connection.execute(_BY_JOB, {"job_id": job_id})]


def release_assets_of_job(connection: Connection, job_id: str) -> None:
    """Delete what a lost attempt made."""
    sought = {"job_id": job_id}
    digests = connection.execute(_OF_JOB, sought).scalars().all()
    if digests:
        connection.execute(_DELETE_OF_JOB, sought)
        _release(connection, digests)


def _asset_from(columns: Iterable[Any]) -> Asset:
    return Asset(*columns)


def _folder_of(new: NewAsset) -> dict[str, object]:
    return {"deployment_id": new.deployment_id, "type": new.type, "subfolder": new.subfolder}


def _find(connection: Connection, folder: dict[str, object], name: str) -> Asset | None:
    row = connection.execute(_BY_NAME, {**folder, "name": name}).one_or_none()
    return None if row is None else _asset_from(row)


def add_asset(connection: Connection, new: NewAsset, now: float) -> Asset:
    """Store an asset under the name that it wishes, or the next free one."""
    folder, name = _folder_of(new), new.name
    if _find(connection, folder, name) is not None:
        name = alternative(name, _free_ordinal(connection, folder, name))
    added = _insert(connection, new, name, now)
    if new.job_id is not None:
        record_output(connection, added.id, (new.job_id, new.deployment_id), now)
    return added


def _add_upload(connection: Connection, new: NewAsset, now: float, *, overwrite: bool) -> Asset:
    folder = _folder_of(new)
    existing = _find(connection, folder, new.name)
    if existing is None:
        return _insert(connection, new, new.name, now)
    if existing.digest == new.digest:
        return existing
    if overwrite:
        connection.execute(_DELETE, {"at": existing.id})
        _release(connection, [existing.digest])
        return _insert(connection, new, new.name, now)
    sought = {**folder, "family": alternatives_of(new.name), "digest": new.digest}
    same = connection.execute(_SAME_BYTES, sought).one_or_none()
    return add_asset(connection, new, now) if same is None else _asset_from(same)


def _free_ordinal(connection: Connection, folder: dict[str, object], name: str) -> int:
    sought = {**folder, "family": alternatives_of(name)}
    if is_counted(name):
        last: int = connection.execute(_LAST_ORDINAL, sought).scalar_one()
        return last + 1
    if connection.execute(_HAS_ORDINAL, {**sought, "ordinal": 1}).one_or_none() is None:
        return 1
    free: int = connection.execute(_FIRST_GAP, sought).scalar_one()
    return free


def _insert(connection: Connection, new: NewAsset, name: str, now: float) -> Asset:
    place = place_of(name)
    made = Asset(
        id=str(uuid4()),
        deployment_id=new.deployment_id,
        job_id=new.job_id,
        node_id=new.node_id,
        name=name,
        subfolder=new.subfolder,
        type=new.type,
        digest=new.digest,
        size_bytes=new.size_bytes,
        content_type=new.content_type,
        created_at=now,
        expires_at=new.expires_at,
    )
    values = {column.name: getattr(made, column.name) for column in ASSET_COLUMNS}
    values.update(family=place.family, ordinal=place.ordinal)
    connection.execute(_INSERT, values)
    return made


def _delete(connection: Connection, asset_id: str) -> bool:
    row = connection.execute(_BY_ID, {"id": asset_id}).one_or_none()
    if row is None:
        return False
    connection.execute(_DELETE, {"at": asset_id})
    _release(connection, [_asset_from(row).digest])
    return True


def _delete_expired(connection: Connection, now: float) -> list[str]:
    expired = connection.execute(_EXPIRED, {"now": now}).scalars().all()
    if expired:
        connection.execute(_DELETE_EXPIRED, {"now": now})
        _release(connection, expired)
    connection.execute(_KEEP_USED)
    return list(connection.execute(_RELEASED).scalars())


def _release(connection: Connection, digests: Sequence[str]) -> None:
    for digest in set(digests):
        if connection.execute(_IS_RELEASED, {"digest": digest}).one_or_none() is None:
            connection.execute(_INSERT_RELEASED, {"digest": digest})


def _forget(connection: Connection, digests: Sequence[str]) -> None:
    for some in chunked(list(digests)):
        connection.execute(_FORGET, {"digests": some})
