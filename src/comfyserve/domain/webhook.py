"""Webhooks: who is told of which events, how a message is signed, and when it is tried again.

Messages are those of Standard Webhooks: an id that stays the same over all tries (to de-duplicate
by), a timestamp, and a signature over both and the body.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.job import Job, JobState

SECRET_PREFIX = "whsec_"  # noqa: S105 - lets secret scanners find it
SECRET_BYTES = 32
OVERLAP_S = 24 * 3600.0
"""After a rotation, messages carry signatures of the old secret too for so long."""
TIMEOUT_S = 15.0
_RETRY_AFTER_S = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 21600, 36000)
_JITTER = 0.1
_LONGEST_WISH_S = 3600.0
_LONGEST_LIFE_S = 30 * 3600.0
_GONE = 410
_TOO_MANY = 429


class WebhookEvent(StrEnum):
    """What a webhook can be told of."""

    STARTED = "started"
    PROGRESS = "progress"
    OUTPUT = "output"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


ENDINGS = frozenset({WebhookEvent.SUCCEEDED, WebhookEvent.FAILED, WebhookEvent.CANCELED})
_TOLD_OF = {
    JobState.RUNNING: WebhookEvent.STARTED,
    JobState.SUCCEEDED: WebhookEvent.SUCCEEDED,
    JobState.FAILED: WebhookEvent.FAILED,
    JobState.EXPIRED: WebhookEvent.FAILED,
    JobState.CANCELED: WebhookEvent.CANCELED,
}


class DeliveryState(StrEnum):
    """The states of a delivery. A dead one was given up; a replay makes it pending again."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Secret:
    """A signing secret. `until` is when an old one stops counting."""

    text: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook to be, its URL judged already. `base_url` begins the links in its messages."""

    url: str
    events: frozenset[WebhookEvent] = ENDINGS
    base_url: str = ""
    principal: str = ""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who is told. `subject` is whose events: a deployment, a typed endpoint or a job, by id."""

    id: str
    deployment_id: str
    subject: str
    url: str
    events: frozenset[WebhookEvent]
    base_url: str
    principal: str
    created_at: float
    secrets: tuple[Secret, ...] = ()
    ended_at: float | None = None
    ended_by: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one webhook. `attempts` and `queued_at` begin anew with a replay."""

    id: str
    webhook_id: str
    deployment_id: str
    job_id: str | None
    event: WebhookEvent
    origin: str
    state: DeliveryState
    created_at: float
    queued_at: float
    attempts: int
    next_at: float
    ended_at: float | None = None
    status: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one try: the receiver's status, or why there is none."""

    status: int | None = None
    error: str = ""
    retry_after_s: float | None = None

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has the message."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_farewell(self) -> bool:
        """Whether the receiver wants no more messages, ever."""
        return self.status == _GONE

    @property
    def is_overload(self) -> bool:
        """Whether the receiver as a whole is in trouble, and not only this address of it."""
        return self.status is None or self.status >= 500 or self.status == _TOO_MANY

    @property
    def reason(self) -> str:
        """Why it is not taken, for a person; empty if it is."""
        if self.is_taken or self.status is None:
            return self.error
        if 300 <= self.status < 400:
            return f"it answered {self.status}; redirects are not followed"
        return f"it answered {self.status}"


def event_of(job: Job) -> WebhookEvent | None:
    """What entering its present state is called; None if nobody is told of it."""
    return _TOLD_OF.get(job.state)


def read_events(names: Iterable[str]) -> frozenset[WebhookEvent]:
    """Events by name; none named: the ends. Raises InvalidInput."""
    chosen = set()
    for name in names:
        try:
            chosen.add(WebhookEvent(name.strip()))
        except ValueError:
            known = ", ".join(WebhookEvent)
            raise InvalidInput(
                f"there is no event '{name[:80]}' for webhooks; known are {known}",
                code="unknown_event",
            ) from None
    return frozenset(chosen) or ENDINGS


def settle(delivery: Delivery, reply: Reply, now: float, jitter: float) -> Delivery:
    """What a try makes of a delivery. `jitter` is a random number from 0 to 1.

    A message that is not taken is tried again for a day, at growing distances, a little earlier or
    later than planned, so that a receiver that comes back is not met by all at once.
    """
    tried = replace(
        delivery, attempts=delivery.attempts + 1, status=reply.status, error=reply.reason
    )
    if reply.is_taken:
        return replace(tried, state=DeliveryState.DELIVERED, ended_at=now)
    next_at = _next_try(tried.attempts, now, jitter, reply.retry_after_s)
    if reply.is_farewell or next_at is None or next_at > tried.queued_at + _LONGEST_LIFE_S:
        return replace(tried, state=DeliveryState.DEAD, ended_at=now)
    return replace(tried, next_at=next_at)


def replayed(delivery: Delivery, now: float) -> Delivery:
    """The same message, with all its tries before it."""
    return replace(
        delivery,
        state=DeliveryState.PENDING,
        attempts=0,
        queued_at=now,
        next_at=now,
        ended_at=None,
        status=None,
        error="",
    )


def make_secret(entropy: bytes) -> str:
    """A signing secret of 32 random bytes, as Standard Webhooks writes it."""
    return SECRET_PREFIX + base64.b64encode(entropy).decode()


def sign(secrets: Iterable[Secret], message_id: str, body: bytes, now: float) -> dict[str, str]:
    """The headers of a message: id, time, and a signature of each secret that counts."""
    timestamp = int(now)
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    signatures = [
        "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()
        for secret in secrets
        if secret.until is None or secret.until > now
    ]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def rotated(secrets: Iterable[Secret], entropy: bytes, now: float) -> tuple[Secret, ...]:
    """A new secret first; those that count go on to sign for a day."""
    kept = (s for s in secrets if s.until is None or s.until > now)
    old = (Secret(s.text, min(s.until or now + OVERLAP_S, now + OVERLAP_S)) for s in kept)
    return (Secret(make_secret(entropy)), *old)


def _next_try(attempts: int, now: float, jitter: float, wish_s: float | None) -> float | None:
    if attempts > len(_RETRY_AFTER_S):
        return None
    planned_s = _RETRY_AFTER_S[attempts - 1] * (1 + _JITTER * (2 * jitter - 1))
    return now + max(planned_s, min(wish_s or 0.0, _LONGEST_WISH_S))


def _key(secret: Secret) -> bytes:
    try:
        return base64.b64decode(secret.text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise InvalidInput("a webhook secret is whsec_ and base64") from None
