"""Uploads of Comfy API v2: records over blobs, as many as there are paths to the same bytes.

They are assets of the type `upload`, so that expiry and the care for bytes are the same. Their
name may be any number of times in a deployment: the subfolder of each is its own id.
"""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from comfyserve.domain.errors import NotFound
from comfyserve.store.asset_names import place_of
from comfyserve.store.assets import ASSET_COLUMNS, Asset
from comfyserve.store.engine import Database
from comfyserve.store.keys import FirstAnswer, UsedKey, drop_old_keys, record_key, refuse_used
from comfyserve.store.rows import chunked, encode_text
from comfyserve.store.tables import asset

UPLOAD = "upload"
_NAMELESS = "asset"


@dataclass(frozen=True, slots=True)
class NewReference:
    """A reference to be. Times are seconds since the epoch.

    Without `size_bytes` the bytes must be an asset of the deployment already, whose size and
    content type count. `key` is a single-use idempotency key.
    """

    deployment_id: str
    digest: str
    file_path: str | None
    expires_at: float | None
    size_bytes: int | None = None
    content_type: str = ""
    tags: tuple[str, ...] = ()
    key: UsedKey | None = None


@dataclass(frozen=True, slots=True)
class Referenced:
    """The reference, whether it was made just now, and whether its bytes were new here."""

    asset: Asset
    is_new: bool
    is_new_blob: bool


_a = asset.c
_is_live = or_(_a.expires_at.is_(None), _a.expires_at > bindparam("now"))
_here = _a.deployment_id == bindparam("deployment_id")
_SAME_BYTES = (
    select(*ASSET_COLUMNS)
    .where(_here, _a.digest == bindparam("digest"), _is_live)
    .order_by(_a.seq)
    .limit(1)
)
_SAME_REFERENCE = (
    select(*ASSET_COLUMNS)
    .where(
        _here,
        _a.digest == bindparam("digest"),
        _a.type == UPLOAD,
        # Equal, also where both are null.
        _a.file_path.is_not_distinct_from(bindparam("file_path")),
        _is_live,
    )
    .limit(1)
)
_BY_PATHS = (
    select(*ASSET_COLUMNS)
    .where(
        _here,
        _a.file_path.in_(bindparam("file_paths", expanding=True)),
        _is_live,
    )
    .order_by(_a.seq)
)
_INSERT = insert(asset)
_EXTEND = update(asset).where(_a.id == bindparam("at")).values(expires_at=bindparam("until"))


class ReferenceStore:
    """References. Each belongs to a deployment; none is seen from another one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def refer(self, new: NewReference, now: float) -> Referenced:
        """Make a reference, or find the one with the same bytes and path, and extend its life.

        Raises NotFound `blob_not_found`, and Conflict `idempotency_key_reuse`.
        """
        return await self._database.write(lambda connection: _refer(connection, new, now))

    async def has_bytes(self, deployment_id: str, digest: str, now: float) -> bool:
        """Whether an asset of the deployment has these bytes."""
        sought = {"deployment_id": deployment_id, "digest": digest, "now": now}
        return await self._database.read(
            lambda connection: connection.execute(_SAME_BYTES, sought).one_or_none() is not None
        )

    async def by_file_paths(
        self, deployment_id: str, file_paths: Sequence[str], now: float
    ) -> Mapping[str, Asset]:
        """The newest reference under each of these paths."""

        def work(connection: Connection) -> dict[str, Asset]:
            found: dict[str, Asset] = {}
            for some in chunked(file_paths):
                sought = {"deployment_id": deployment_id, "file_paths": some, "now": now}
                for row in connection.execute(_BY_PATHS, sought):
                    each = _asset(row)
                    found[each.file_path or ""] = each
            return found

        return await self._database.read(work)


def _refer(connection: Connection, new: NewReference, now: float) -> Referenced:
    if new.key is not None:
        drop_old_keys(connection, now)
        refuse_used(connection, new.key)
    sought = {"deployment_id": new.deployment_id, "digest": new.digest, "now": now}
    same_bytes = connection.execute(_SAME_BYTES, sought).one_or_none()
    if same_bytes is None and new.size_bytes is None:
        raise NotFound("These bytes are not here; upload them.", code="blob_not_found")
    known = None if same_bytes is None else _asset(same_bytes)
    same = connection.execute(_SAME_REFERENCE, {**sought, "file_path": new.file_path})
    row = same.one_or_none()
    if row is None:
        found = _insert(connection, new, known, now)
    else:
        found = _extended(connection, _asset(row), new.expires_at)
    if new.key is not None:
        record_key(connection, new.key, FirstAnswer(found.id), now)
    return Referenced(found, is_new=row is None, is_new_blob=known is None)


def _asset(columns: Iterable[Any]) -> Asset:
    return Asset(*columns)


def _extended(connection: Connection, found: Asset, until: float | None) -> Asset:
    """Later, or for ever (None); never earlier."""
    if found.expires_at is None or (until is not None and until <= found.expires_at):
        return found
    connection.execute(_EXTEND, {"at": found.id, "until": until})
    return replace(found, expires_at=until)


def _insert(connection: Connection, new: NewReference, known: Asset | None, now: float) -> Asset:
    asset_id = str(uuid4())
    name = posixpath.basename(new.file_path or "") or _NAMELESS
    size_bytes = new.size_bytes if known is None else known.size_bytes
    made = Asset(
        id=asset_id,
        deployment_id=new.deployment_id,
        job_id=None,
        node_id="",
        name=name,
        subfolder=asset_id,
        type=UPLOAD,
        digest=new.digest,
        size_bytes=size_bytes or 0,
        content_type=new.content_type or (known.content_type if known else ""),
        created_at=now,
        expires_at=new.expires_at,
        file_path=new.file_path,
    )
    place = place_of(name)
    values = {column.name: getattr(made, column.name) for column in ASSET_COLUMNS}
    values.update(family=place.family, ordinal=place.ordinal, tags=encode_text(new.tags))
    connection.execute(_INSERT, values)
    return made
