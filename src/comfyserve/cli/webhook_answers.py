"""What the control API answers about webhooks, as values."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who is told of what. Only the answers to its creation and rotation have the `secret`."""

    id: str
    deployment: str
    url: str
    events: tuple[str, ...]
    endpoint: str | None = None
    created_at: datetime | None = None
    ended_at: datetime | None = None
    ended_by: str = ""
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Some webhooks."""

    webhooks: tuple[Webhook, ...]


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """What signs the webhooks of the caller's own jobs."""

    secret: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a test message."""

    delivered: bool
    status: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one webhook."""

    id: str
    webhook: str
    event: str
    state: str
    job: str | None = None
    attempts: int = 0
    created_at: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Some deliveries, the newest first, and where the next page begins."""

    deliveries: tuple[Delivery, ...]
    next_cursor: str | None = None
