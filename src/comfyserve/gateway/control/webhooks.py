"""Webhooks: create, try out, rotate, remove; what was delivered, what was given up, and again."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Query, Request

from comfyserve.domain.deployment import Deployment
from comfyserve.domain.errors import NotFound
from comfyserve.domain.ids import ENTROPY_BYTES, Prefix, make_id
from comfyserve.domain.webhook import DeliveryState, NewWebhook, Webhook, read_events
from comfyserve.gateway import webhook_models as m
from comfyserve.gateway.auth import ADMIN, RUN, Principal
from comfyserve.gateway.context import Gateway
from comfyserve.gateway.control.common import Caller, Parts, deployment_name
from comfyserve.gateway.resolve import default_of
from comfyserve.store.outbox import DeliveryFilter, Parcel
from comfyserve.store.webhooks import Owner

router = APIRouter(tags=["webhooks"])


@router.get("/webhooks")
async def list_webhooks(
    gateway: Parts, caller: Caller, deployment: str | None = None
) -> m.WebhookList:
    """The webhooks of a deployment, or all. Those of single jobs are in their deliveries."""
    wanted = await _allowed(gateway, caller, deployment)
    found = await gateway.store.webhooks.list(wanted)
    return m.WebhookList(webhooks=[await _show(gateway, webhook) for webhook in found])


@router.post("/webhooks", status_code=201)
async def create_webhook(
    new: m.NewWebhookModel, gateway: Parts, caller: Caller, request: Request
) -> m.WebhookModel:
    """Tell a URL of the jobs of a deployment or a typed endpoint. The secret that signs is shown this once."""
    name = new.deployment or default_of(gateway.runtime.deployments).name
    deployment = await gateway.deployer.find(name)
    caller.require(ADMIN, deployment.id)
    made = await gateway.store.webhooks.create(
        NewWebhook(
            url=gateway.outside.policy.judge_url(new.url),
            events=read_events(new.events),
            base_url=str(request.base_url).rstrip("/"),
            principal=caller.name,
        ),
        Owner(deployment.id, await _subject(gateway, deployment, new.endpoint)),
        gateway.clock.now(),
    )
    return await _show(gateway, made, shows_secret=True)


@router.get("/webhooks/{webhook_id}")
async def get_webhook(webhook_id: str, gateway: Parts, caller: Caller) -> m.WebhookModel:
    """One webhook."""
    return await _show(gateway, await _find(gateway, caller, webhook_id))


@router.delete("/webhooks/{webhook_id}", status_code=204)
async def delete_webhook(webhook_id: str, gateway: Parts, caller: Caller) -> None:
    """Remove a webhook, with what it was still to be told and the record of what it was."""
    await _find(gateway, caller, webhook_id)
    await gateway.store.webhooks.delete(webhook_id)


@router.post("/webhooks/{webhook_id}/rotate")
async def rotate_secret(webhook_id: str, gateway: Parts, caller: Caller) -> m.WebhookModel:
    """A new secret, shown this once; for a day, messages carry signatures of both."""
    await _find(gateway, caller, webhook_id)
    made = await gateway.store.webhooks.rotate(webhook_id, gateway.clock.now())
    return await _show(gateway, made, shows_secret=True)


@router.post("/webhooks/{webhook_id}/test")
async def try_webhook(webhook_id: str, gateway: Parts, caller: Caller) -> m.TrialModel:
    """Send a test message now, once, and say what came of it."""
    webhook = await _find(gateway, caller, webhook_id)
    message_id = make_id(Prefix.DELIVERY, secrets.token_bytes(ENTROPY_BYTES))
    reply = await gateway.courier.try_out(webhook, message_id)
    return m.TrialModel(delivered=reply.is_taken, status=reply.status, error=reply.reason)


@router.get("/webhook-secret")
async def caller_secret(gateway: Parts, caller: Caller) -> m.SecretModel:
    """What signs the webhooks that this caller names in its own requests (`?webhook=`)."""
    caller.require(RUN, caller.deployment_id)
    return m.SecretModel(secret=gateway.store.webhooks.caller_secret(caller.name))


@router.get("/webhook-deliveries")
async def list_deliveries(  # noqa: PLR0913 - each is a query parameter
    gateway: Parts,
    caller: Caller,
    deployment: str | None = None,
    webhook: str | None = None,
    job: str | None = None,
    state: DeliveryState | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: str | None = None,
) -> m.DeliveryList:
    """Deliveries, the newest first; `state=dead` are those that were given up."""
    wanted = await _allowed(gateway, caller, deployment)
    page = await gateway.store.outbox.list(
        DeliveryFilter(wanted, webhook, job, state), limit, cursor
    )
    named = ((d, deployment_name(gateway, d.deployment_id)) for d in page.deliveries)
    return m.DeliveryList.of(named, page.next_cursor)


@router.get("/webhook-deliveries/{delivery_id}")
async def get_delivery(delivery_id: str, gateway: Parts, caller: Caller) -> m.DeliveryModel:
    """One delivery with its message; links in it are made anew each time it is sent."""
    parcel = await _find_parcel(gateway, caller, delivery_id)
    message = gateway.courier.message(parcel)
    return m.DeliveryModel.of(parcel.delivery, parcel.deployment, dict(message))


@router.post("/webhook-deliveries/{delivery_id}/replay")
async def replay_delivery(delivery_id: str, gateway: Parts, caller: Caller) -> m.DeliveryModel:
    """Deliver it again, under the same id and with all its tries."""
    parcel = await _find_parcel(gateway, caller, delivery_id)
    made = await gateway.store.outbox.replay(delivery_id, gateway.clock.now())
    return m.DeliveryModel.of(made, parcel.deployment)


async def _allowed(gateway: Gateway, caller: Principal, name: str | None) -> str | None:
    """The deployment that is asked for, if the caller may administer it."""
    wanted = (await gateway.deployer.find(name)).id if name else caller.deployment_id
    caller.require(ADMIN, wanted)
    return wanted


async def _find(gateway: Gateway, caller: Principal, webhook_id: str) -> Webhook:
    """A webhook, if the caller may administer it; a foreign one is not found."""
    found = await gateway.store.webhooks.get(webhook_id)
    if caller.deployment_id not in (None, found.deployment_id):
        raise NotFound(f"there is no webhook '{webhook_id[:80]}'", code="webhook_not_found")
    caller.require(ADMIN, found.deployment_id)
    return found


async def _find_parcel(gateway: Gateway, caller: Principal, delivery_id: str) -> Parcel:
    found = await gateway.store.outbox.parcel(delivery_id)
    if caller.deployment_id not in (None, found.delivery.deployment_id):
        raise NotFound(f"there is no delivery '{delivery_id[:80]}'", code="delivery_not_found")
    caller.require(ADMIN, found.delivery.deployment_id)
    return found


async def _subject(gateway: Gateway, deployment: Deployment, endpoint: str | None) -> str:
    """Whose events are meant. Raises NotFound."""
    if endpoint is None:
        return deployment.id
    found = await gateway.store.endpoints.find(deployment.id, endpoint)
    if found is None:
        raise NotFound(
            f"'{deployment.name}' has no endpoint '{endpoint[:80]}'", code="endpoint_not_found"
        )
    return found.id


async def _show(
    gateway: Gateway, webhook: Webhook, *, shows_secret: bool = False
) -> m.WebhookModel:
    name, endpoint = deployment_name(gateway, webhook.deployment_id), None
    if webhook.subject.startswith(Prefix.ENDPOINT):
        found = await gateway.store.endpoints.list(webhook.deployment_id)
        endpoint = next((each.name for each in found if each.id == webhook.subject), "")
    return m.WebhookModel.of(webhook, name, endpoint, shows_secret=shows_secret)
