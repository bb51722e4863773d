"""Secrets by name: sealed at rest, opened only for whoever starts a process or masks its log."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from comfyserve.domain.errors import ComfyserveError, Conflict, InvalidInput, NotFound
from comfyserve.domain.secret import Mask, check_secret_name, check_secret_value
from comfyserve.store.engine import Database
from comfyserve.store.sealing import Sealer
from comfyserve.store.tables import secret

MOST_SECRETS = 256
"""Each one costs a pass over every log that is shown."""
RETIRED_FOR_S = 30 * 24 * 3600.0
_MOST_RETIRED = 256


@dataclass(frozen=True, slots=True)
class Secret:
    """What may be told of a secret: not its value."""

    name: str
    created_at: float
    updated_at: float


_IS_CURRENT = secret.c.retired_at.is_(None)
_BY_NAME = (_IS_CURRENT, secret.c.name == bindparam("of"))
_LIST = (
    select(secret.c.name, secret.c.created_at, secret.c.updated_at)
    .where(_IS_CURRENT)
    .order_by(secret.c.name)
)
_FIND = select(secret.c.created_at).where(*_BY_NAME)
_COUNT = select(func.count()).select_from(secret).where(_IS_CURRENT)
_VALUES = select(secret.c.name, secret.c.sealed).where(_IS_CURRENT)
_ALL_VALUES = (
    select(secret.c.name, secret.c.sealed)
    .order_by(_IS_CURRENT.desc(), secret.c.seq.desc())
    .limit(MOST_SECRETS + _MOST_RETIRED)
)
_INSERT = insert(secret)
_RETIRE = update(secret).where(*_BY_NAME).values(retired_at=bindparam("now"))
_FORGET = delete(secret).where(secret.c.retired_at <= bindparam("before"))


class SecretStore:
    """Values go in, and come out by `open` alone."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._mask: Mask | None = None
        self._changes = 0

    async def put(self, name: str, value: str, now: float, *, is_new: bool | None = None) -> bool:
        """Store a value; return whether the name is new. `is_new` says what it has to be, if given.

        Raises InvalidInput, Conflict `secret_exists` and NotFound `secret_not_found`.
        """
        check_secret_name(name)
        sealed = self._sealer.seal(_bound(name, check_secret_value(value)))

        def work(connection: Connection) -> bool:
            created_at = connection.execute(_FIND, {"of": name}).scalar()
            if created_at is None and is_new is False:
                raise _unknown([name], _names(connection))
            if created_at is not None and is_new is True:
                raise Conflict(
                    f"there is a secret '{name}' already; change it with `comfyserve secret modify`",
                    code="secret_exists",
                )
            if created_at is None and connection.execute(_COUNT).scalar_one() >= MOST_SECRETS:
                raise Conflict(
                    f"there are {MOST_SECRETS} secrets already; delete one that nothing uses",
                    code="too_many_secrets",
                )
            connection.execute(_RETIRE, {"of": name, "now": now})
            values = {
                "name": name,
                "sealed": sealed,
                "created_at": now if created_at is None else created_at,
                "updated_at": now,
            }
            connection.execute(_INSERT, values)
            return created_at is None

        try:
            return await self._database.write(work)
        finally:
            self._changed()

    async def list(self) -> Sequence[Secret]:
        """All secrets by name, without their values."""
        return await self._database.read(
            lambda connection: [Secret(*row) for row in connection.execute(_LIST)]
        )

    async def delete(self, name: str, now: float) -> None:
        """Forget a secret. Raises NotFound naming what there is."""

        def work(connection: Connection) -> None:
            if not connection.execute(_RETIRE, {"of": name, "now": now}).rowcount:
                raise _unknown([name], _names(connection))

        await self._database.write(work)

    async def require(self, names: Iterable[str]) -> None:
        """Raise InvalidInput `unknown_secret` for the names that there are not, naming what there is."""
        known = [item.name for item in await self.list()]
        missing = sorted(set(names).difference(known))
        if missing:
            error = _unknown(missing, known)
            raise InvalidInput(error.message, code="unknown_secret")

    async def open(self, names: Iterable[str]) -> Mapping[str, str]:
        """The values by name. Raises NotFound naming what there is."""
        wanted = frozenset(names)
        if not wanted:
            return {}
        rows = await self._database.read(lambda connection: connection.execute(_VALUES).all())
        sealed = {name: value for name, value in rows if name in wanted}
        if missing := sorted(wanted.difference(sealed)):
            raise _unknown(missing, sorted(name for name, _ in rows))
        return {name: self._opened(name, value) for name, value in sealed.items()}

    async def mask(self) -> Mask:
        """What takes every value, also those replaced of late, out of a log."""
        mask, changes = self._mask, self._changes
        if mask is None:
            rows = await self._database.read(
                lambda connection: connection.execute(_ALL_VALUES).all()
            )
            mask = Mask(self._opened(name, value) for name, value in rows)
            if changes == self._changes:
                self._mask = mask
        return mask

    async def forget_retired(self, now: float) -> None:
        """Delete the values that were replaced or deleted a while ago."""
        values = {"before": now - RETIRED_FOR_S}
        await self._database.write(lambda connection: connection.execute(_FORGET, values).rowcount)

    def _changed(self) -> None:
        self._mask, self._changes = None, self._changes + 1

    def _opened(self, name: str, sealed: bytes) -> str:
        # The name is sealed too: a value that was moved to another row does not open.
        bound = self._sealer.open(sealed)
        prefix = _bound(name, "")
        if not bound.startswith(prefix):
            raise ComfyserveError(
                f"The secret '{name}' cannot be opened: the database was changed by hand.",
                code="secrets_unreadable",
            )
        return bound.removeprefix(prefix).decode()


def _names(connection: Connection) -> Sequence[str]:
    return [row.name for row in connection.execute(_LIST)]


def _unknown(missing: Sequence[str], known: Sequence[str]) -> NotFound:
    named = ", ".join(f"'{name[:80]}'" for name in missing)
    return NotFound(
        f"there is no secret {named}; there is: {', '.join(known) or 'none yet'}. Make one with "
        f"`comfyserve secret create NAME`",
        code="secret_not_found",
    )


def _bound(name: str, value: str) -> bytes:
    return f"{name}={value}".encode()
