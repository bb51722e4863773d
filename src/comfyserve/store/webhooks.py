"""Webhooks by whose events they hear. Where a message goes and what signs it is sealed at rest."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, bindparam, delete, insert, select, update

from comfyserve.domain.errors import Conflict, NotFound
from comfyserve.domain.ids import ENTROPY_BYTES, Prefix, make_id
from comfyserve.domain.outside import origin_of
from comfyserve.domain.webhook import (
    SECRET_BYTES,
    NewWebhook,
    Secret,
    Webhook,
    WebhookEvent,
    make_secret,
    rotated,
)
from comfyserve.store.engine import Database
from comfyserve.store.rows import encode
from comfyserve.store.sealing import Sealer
from comfyserve.store.webhook_tables import webhook, webhook_delivery

MOST_STANDING = 50
_w = webhook.c
WEBHOOK_COLUMNS = (
    _w.id,
    _w.deployment_id,
    _w.subject,
    _w.events,
    _w.sealed,
    _w.base_url,
    _w.principal,
    _w.created_at,
    _w.ended_at,
    _w.ended_by,
)
_ROWS = select(*WEBHOOK_COLUMNS)
_BY_ID = _ROWS.where(_w.id == bindparam("id"))
_STANDING = _ROWS.where(_w.job_id.is_(None)).order_by(_w.created_at)
_INSERT = insert(webhook)
_RESEAL = update(webhook).where(_w.id == bindparam("at")).values(sealed=bindparam("new"))
_DELETE = delete(webhook).where(_w.id == bindparam("at"))
_DELETE_DELIVERIES = delete(webhook_delivery).where(
    webhook_delivery.c.webhook_id == bindparam("at")
)


@dataclass(frozen=True, slots=True)
class _Sealed:
    """What lies sealed in a row. Without secrets it is signed with that of its principal."""

    url: str
    secrets: tuple[Secret, ...] = ()


@dataclass(frozen=True, slots=True)
class WebhookSeal:
    """Seals and opens rows; knows each principal's own secret, derived and never stored."""

    sealer: Sealer = field(repr=False)
    key: bytes = field(repr=False)

    def caller_secret(self, principal: str) -> str:
        """What signs the webhooks that this principal gives with its jobs."""
        digest = hmac.digest(self.key, principal.encode(), hashlib.sha256)
        return make_secret(digest)

    def values(
        self, new: NewWebhook, owner: "Owner", own_secrets: Sequence[Secret] = ()
    ) -> dict[str, Any]:
        """A row to insert, without its time."""
        return {
            "id": make_id(Prefix.WEBHOOK, secrets.token_bytes(ENTROPY_BYTES)),
            "deployment_id": owner.deployment_id,
            "subject": owner.subject,
            "job_id": owner.job_id,
            "events": " ".join(sorted(new.events)),
            "origin": origin_of(new.url),
            "sealed": self.seal(new.url, own_secrets),
            "base_url": new.base_url,
            "principal": new.principal,
            "ended_by": "",
        }

    def seal(self, url: str, own_secrets: Sequence[Secret]) -> bytes:
        """What a row keeps of both."""
        return self.sealer.seal(encode(_Sealed(url, tuple(own_secrets))))

    def webhook(self, columns: Iterable[Any]) -> Webhook:
        """A webhook from WEBHOOK_COLUMNS."""
        id_, deployment_id, subject, events, sealed, base_url, principal, *times = columns
        opened = msgspec.json.decode(self.sealer.open(sealed), type=_Sealed)
        return Webhook(
            id_,
            deployment_id,
            subject,
            opened.url,
            read_event_column(events),
            base_url,
            principal,
            times[0],
            opened.secrets or (Secret(self.caller_secret(principal)),),
            times[1],
            times[2],
        )


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose events a webhook hears: `subject` is a deployment, a typed endpoint or a job."""

    deployment_id: str
    subject: str
    job_id: str | None = None


class WebhookStore:
    """Webhooks. Those of one job come and go with it; the others stand until they are removed."""

    def __init__(self, database: Database, seal: WebhookSeal) -> None:
        self._database = database
        self._seal = seal

    def caller_secret(self, principal: str) -> str:
        """What signs the webhooks that this principal gives with its jobs."""
        return self._seal.caller_secret(principal)

    async def create(self, new: NewWebhook, owner: Owner, now: float) -> Webhook:
        """Store a standing webhook with a secret of its own. Raises Conflict if there are too many."""
        secret = Secret(make_secret(secrets.token_bytes(SECRET_BYTES)))
        values = {**self._seal.values(new, owner, [secret]), "created_at": now}

        def work(connection: Connection) -> Webhook:
            if len(connection.execute(_of(owner.deployment_id)).all()) >= MOST_STANDING:
                raise Conflict(
                    f"a deployment can have {MOST_STANDING} webhooks; remove one first",
                    code="too_many_webhooks",
                )
            connection.execute(_INSERT, values)
            return self._one(connection, values["id"])

        return await self._database.write(work)

    async def list(self, deployment_id: str | None = None) -> Sequence[Webhook]:
        """Standing webhooks, the oldest first."""
        return await self._database.read(
            lambda connection: [
                self._seal.webhook(row) for row in connection.execute(_of(deployment_id))
            ]
        )

    async def get(self, webhook_id: str) -> Webhook:
        """One webhook. Raises NotFound."""
        return await self._database.read(lambda connection: self._one(connection, webhook_id))

    async def rotate(self, webhook_id: str, now: float) -> Webhook:
        """Give it a new secret; the old one goes on to sign for a day. Raises NotFound."""
        entropy = secrets.token_bytes(SECRET_BYTES)

        def work(connection: Connection) -> Webhook:
            found = self._one(connection, webhook_id)
            sealed = self._seal.seal(found.url, rotated(found.secrets, entropy, now))
            connection.execute(_RESEAL, {"at": webhook_id, "new": sealed})
            return self._one(connection, webhook_id)

        return await self._database.write(work)

    async def delete(self, webhook_id: str) -> None:
        """Remove it with its deliveries, also those that are still to be made. Raises NotFound."""

        def work(connection: Connection) -> None:
            self._one(connection, webhook_id)
            connection.execute(_DELETE_DELIVERIES, {"at": webhook_id})
            connection.execute(_DELETE, {"at": webhook_id})

        await self._database.write(work)

    def _one(self, connection: Connection, webhook_id: str) -> Webhook:
        row = connection.execute(_BY_ID, {"id": webhook_id}).one_or_none()
        if row is None:
            raise NotFound(f"there is no webhook '{webhook_id[:80]}'", code="webhook_not_found")
        return self._seal.webhook(row)


def insert_webhook(connection: Connection, values: Mapping[str, Any], now: float) -> None:
    """Store a webhook, in the transaction of its job."""
    connection.execute(_INSERT, {**values, "created_at": now})


def read_event_column(text: str) -> frozenset[WebhookEvent]:
    """Events as a row has them."""
    return frozenset(WebhookEvent(name) for name in text.split())


def _of(deployment_id: str | None) -> Select[Any]:
    return (
        _STANDING if deployment_id is None else _STANDING.where(_w.deployment_id == deployment_id)
    )
