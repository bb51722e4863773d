"""Builds, and the answers that were recorded of built images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from comfyserve.domain.build import Build, BuildResult, BuildState
from comfyserve.domain.errors import NotFound
from comfyserve.store.engine import Database
from comfyserve.store.rows import encode_text
from comfyserve.store.tables_builds import build, image_record

_COLUMNS = (
    build.c.id,
    build.c.digest,
    build.c.image,
    build.c.is_fresh,
    build.c.state,
    build.c.created_at,
    build.c.started_at,
    build.c.finished_at,
    build.c.result,
)
_BY_ID = select(*_COLUMNS).where(build.c.id == bindparam("of"))
_NEWEST = select(*_COLUMNS).order_by(build.c.created_at.desc(), build.c.id).limit(bindparam("most"))
_OF_DIGEST = (
    select(*_COLUMNS)
    .where(build.c.digest == bindparam("of"))
    .order_by(build.c.created_at.desc())
    .limit(1)
)
_OPEN = select(*_COLUMNS).where(build.c.state.in_((BuildState.QUEUED, BuildState.RUNNING)))
_INSERT = insert(build)
_UPDATE = (
    update(build)
    .where(build.c.id == bindparam("of"))
    .values(
        state=bindparam("to"),
        started_at=bindparam("begun"),
        finished_at=bindparam("ended"),
        result=bindparam("what"),
    )
)
_result = msgspec.json.Decoder(BuildResult)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What an image's engine said about itself when it was started once."""

    digest: str
    snapshot_digest: str
    engine_version: str
    recorded_at: float
    warnings: tuple[str, ...] = ()
    import_times: Mapping[str, float] = field(default_factory=dict)


class BuildStore:
    """Builds by id, newest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, record: Build) -> None:
        """Store a new build."""
        values = _values(record)
        await self._database.write(lambda connection: connection.execute(_INSERT, values).rowcount)

    async def save(self, record: Build) -> None:
        """Store what changed. Raises NotFound."""
        values = {
            "of": record.id,
            "to": record.state.value,
            "begun": record.started_at,
            "ended": record.finished_at,
            "what": encode_text(record.result),
        }

        def work(connection: Connection) -> None:
            if not connection.execute(_UPDATE, values).rowcount:
                raise _unknown(record.id)

        await self._database.write(work)

    async def get(self, build_id: str) -> Build:
        """The build with this id. Raises NotFound."""
        row = await self._database.read(
            lambda connection: connection.execute(_BY_ID, {"of": build_id}).one_or_none()
        )
        if row is None:
            raise _unknown(build_id)
        return _build(row)

    async def newest(self, most: int) -> Sequence[Build]:
        """The newest builds."""
        return await self._database.read(
            lambda connection: [_build(row) for row in connection.execute(_NEWEST, {"most": most})]
        )

    async def of_image(self, digest: str) -> Build | None:
        """The newest build of an image."""
        row = await self._database.read(
            lambda connection: connection.execute(_OF_DIGEST, {"of": digest}).one_or_none()
        )
        return None if row is None else _build(row)

    async def open(self) -> Sequence[Build]:
        """Builds that have not ended."""
        return await self._database.read(
            lambda connection: [_build(row) for row in connection.execute(_OPEN)]
        )

    async def record_image(self, record: ImageRecord) -> None:
        """Keep what an image's engine said; it replaces what it said before."""
        values = {
            "digest": record.digest,
            "snapshot_digest": record.snapshot_digest,
            "engine_version": record.engine_version,
            "recorded_at": record.recorded_at,
            "warnings": encode_text(record.warnings),
            "import_times": encode_text(record.import_times),
        }
        former = delete(image_record).where(image_record.c.digest == record.digest)

        def work(connection: Connection) -> None:
            connection.execute(former)
            connection.execute(insert(image_record), values)

        await self._database.write(work)

    async def recorded(self, digest: str) -> ImageRecord | None:
        """What an image's engine said, if it was asked."""
        query = select(image_record).where(image_record.c.digest == digest)
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            return None
        return ImageRecord(
            digest=row.digest,
            snapshot_digest=row.snapshot_digest,
            engine_version=row.engine_version,
            recorded_at=row.recorded_at,
            warnings=msgspec.json.decode(row.warnings, type=tuple[str, ...]),
            import_times=msgspec.json.decode(row.import_times, type=dict[str, float]),
        )


def _values(record: Build) -> dict[str, object]:
    return {
        "id": record.id,
        "digest": record.digest,
        "image": record.image,
        "is_fresh": int(record.is_fresh),
        "state": record.state.value,
        "created_at": record.created_at,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "result": encode_text(record.result),
    }


def _build(row: Sequence[Any]) -> Build:
    return Build(
        id=row[0],
        digest=row[1],
        image=row[2],
        is_fresh=bool(row[3]),
        state=BuildState(row[4]),
        created_at=row[5],
        started_at=row[6],
        finished_at=row[7],
        result=_result.decode(row[8]),
    )


def _unknown(build_id: str) -> NotFound:
    return NotFound(
        f"there is no build '{build_id[:80]}'; `comfyserve build list` shows them",
        code="build_not_found",
    )
