"""Webhooks and their deliveries as the control API shows them."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, Field

from comfyserve.domain.webhook import Delivery, Webhook
from comfyserve.gateway.models import Model, Time


class NewWebhookModel(BaseModel):
    """A webhook to be, of a deployment or of one of its typed endpoints.

    Without events it is told how jobs end.
    """

    url: str
    deployment: str | None = None
    endpoint: str | None = None
    events: list[str] = []


class WebhookModel(Model):
    """Who is told of what. The secret is shown when it is made, and never again."""

    id: str
    deployment: str
    endpoint: str | None
    url: str
    events: list[str]
    created_at: Time
    ended_at: Time | None = None
    ended_by: str = ""
    secret: str | None = None

    @classmethod
    def of(
        cls, webhook: Webhook, name: str, endpoint: str | None, *, shows_secret: bool = False
    ) -> "WebhookModel":
        """Show a webhook of the deployment called `name`, or of its endpoint."""
        return cls(
            id=webhook.id,
            deployment=name,
            endpoint=endpoint,
            url=webhook.url,
            events=sorted(webhook.events),
            created_at=webhook.created_at,
            ended_at=webhook.ended_at,
            ended_by=webhook.ended_by,
            secret=webhook.secrets[0].text if shows_secret else None,
        )


class WebhookList(Model):
    """Webhooks, the oldest first."""

    webhooks: list[WebhookModel]


class SecretModel(Model):
    """What signs the webhooks that this caller gives with its jobs."""

    secret: str


class TrialModel(Model):
    """What came of a test message."""

    delivered: bool
    status: int | None
    error: str


class DeliveryModel(Model):
    """One message to one webhook. `message` comes with a single delivery, not in lists."""

    id: str
    webhook: str
    deployment: str
    job: str | None
    event: str
    state: str
    created_at: Time
    attempts: int
    next_at: Time | None
    ended_at: Time | None
    status: int | None
    error: str
    message: dict[str, Any] | None = Field(default=None)

    @classmethod
    def of(
        cls, delivery: Delivery, name: str, message: dict[str, Any] | None = None
    ) -> "DeliveryModel":
        """Show a delivery of the deployment called `name`."""
        return cls(
            id=delivery.id,
            webhook=delivery.webhook_id,
            deployment=name,
            job=delivery.job_id,
            event=delivery.event,
            state=delivery.state,
            created_at=delivery.created_at,
            attempts=delivery.attempts,
            next_at=delivery.next_at if delivery.ended_at is None else None,
            ended_at=delivery.ended_at,
            status=delivery.status,
            error=delivery.error,
            message=message,
        )


class DeliveryList(Model):
    """Deliveries, the newest first, in keyset pages."""

    deliveries: list[DeliveryModel]
    next_cursor: str | None = None

    @classmethod
    def of(cls, pairs: Iterable[tuple[Delivery, str]], next_cursor: str | None) -> "DeliveryList":
        """Show deliveries, each with the name of its deployment."""
        shown = [DeliveryModel.of(delivery, name) for delivery, name in pairs]
        return cls(deliveries=shown, next_cursor=next_cursor)
