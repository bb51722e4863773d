"""Tokens: what a principal shows. Only a hash of the secret is stored."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, bindparam, insert, select, update

from comfyserve.domain.errors import NotFound
from comfyserve.domain.ids import ENTROPY_BYTES, Prefix, make_id
from comfyserve.store.engine import Database
from comfyserve.store.tables import token

SECRET_PREFIX = "cs_"  # noqa: S105 - lets secret scanners find it
_SECRET_BYTES = 32


class Scope(StrEnum):
    """What a token allows; each includes the one before it."""

    READ = "read"
    RUN = "run"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Token:
    """A credential, without its secret. `deployment_id` None: for all deployments."""

    id: str
    name: str
    scopes: frozenset[Scope]
    deployment_id: str | None
    created_at: float
    revoked_at: float | None = None


_COLUMNS = (
    token.c.id,
    token.c.name,
    token.c.scopes,
    token.c.deployment_id,
    token.c.created_at,
    token.c.revoked_at,
)
_ALL = select(*_COLUMNS).order_by(token.c.created_at, token.c.id)
_BY_SECRET = select(*_COLUMNS).where(
    token.c.secret_digest == bindparam("secret_digest"), token.c.revoked_at.is_(None)
)
_INSERT = insert(token)
_REVOKE = (
    update(token)
    .where(token.c.id == bindparam("at"), token.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)


class TokenStore:
    """Tokens by secret."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, name: str, scopes: frozenset[Scope], deployment_id: str | None, now: float
    ) -> tuple[Token, str]:
        """Make a token; the secret is returned once and never again."""
        made = Token(
            id=make_id(Prefix.TOKEN, secrets.token_bytes(ENTROPY_BYTES)),
            name=name,
            scopes=scopes,
            deployment_id=deployment_id,
            created_at=now,
        )
        secret = SECRET_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        values = {
            "id": made.id,
            "name": made.name,
            "secret_digest": _digest(secret),
            "scopes": " ".join(sorted(scopes)),
            "deployment_id": deployment_id,
            "created_at": now,
        }
        await self._database.write(lambda connection: connection.execute(_INSERT, values).rowcount)
        return made, secret

    async def verify(self, secret: str) -> Token | None:
        """The token with this secret, unless it is revoked."""
        sought = {"secret_digest": _digest(secret)}

        def work(connection: Connection) -> Token | None:
            row = connection.execute(_BY_SECRET, sought).one_or_none()
            return None if row is None else _token_from(*row)

        return await self._database.read(work)

    async def revoke(self, token_id: str, now: float) -> None:
        """Make a token useless, at once. Raises NotFound for one that is unknown or revoked."""
        values = {"at": token_id, "now": now}
        revoked = await self._database.write(
            lambda connection: connection.execute(_REVOKE, values).rowcount
        )
        if not revoked:
            raise NotFound(f"There is no token '{token_id}'.", code="token_not_found")

    async def list(self) -> Sequence[Token]:
        """All tokens, revoked ones too, oldest first."""
        return await self._database.read(
            lambda connection: [_token_from(*row) for row in connection.execute(_ALL)]
        )


def _token_from(
    id_: str,
    name: str,
    scopes: str,
    deployment_id: str | None,
    created_at: float,
    revoked_at: float | None,
) -> Token:
    held = frozenset(Scope(scope) for scope in scopes.split())
    return Token(id_, name, held, deployment_id, created_at, revoked_at)


def _digest(secret: str) -> str:
    # The secret is 32 random bytes: a plain hash is enough, nothing can be guessed.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
