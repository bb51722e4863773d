"""Webhooks, from the state of a job to the receiver: nothing is lost, and nobody waits for others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from comfyserve.clock import SystemClock
from comfyserve.domain.deployment import Deployment
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.outside import OutsidePolicy
from comfyserve.domain.webhook import Delivery, DeliveryState, NewWebhook, Webhook, WebhookEvent
from comfyserve.runtime.courier import HANDS_FOR_THE_DOUBTFUL, HANDS_PER_RECEIVER, Courier
from comfyserve.runtime.outside import Outside
from comfyserve.store import Store, open_store
from comfyserve.store.outbox import DeliveryFilter
from comfyserve.store.webhooks import Owner
from comfyserve.testing.comfy import Conduct
from comfyserve.testing.comfy_plays import NodeFailed, Stage
from comfyserve.testing.receiver import Message, Receiver
from comfyserve.testing.rig import Rig, open_rig
from comfyserve.testing.store_data import a_new_job, furnish

EVERY = frozenset(WebhookEvent)
DAY_S = 24 * 3600.0
LOOPBACK = OutsidePolicy.of("127.0.0.0/8")


class HandClock(SystemClock):
    """The system's clock, moved on by hand."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@asynccontextmanager
async def courier_of(store: Store, clock: HandClock | None = None) -> AsyncIterator[Courier]:
    async with (
        Outside(LOOPBACK) as outside,
        Courier(store, outside, clock or HandClock(), lambda: 0.5, "http://me.example") as courier,
    ):
        yield courier


async def listen(store: Store, url: str, events: frozenset[WebhookEvent] = EVERY) -> Webhook:
    owner = Owner("dp_1", "dp_1")
    return await store.webhooks.create(NewWebhook(url, events), owner, SystemClock().now())


async def end(store: Store, count: int = 1) -> None:
    """Cancel so many jobs: the shortest way to an event."""
    for _ in range(count):
        made = await store.jobs.enqueue(a_new_job(), SystemClock().now())
        await store.jobs.cancel(made.job.id, SystemClock().now())


async def settled(store: Store, state: DeliveryState, count: int = 1) -> list[Delivery]:
    """Wait until so many deliveries are in a state; all of them."""
    async with asyncio.timeout(20):
        while True:
            page = await store.outbox.list(DeliveryFilter(state=state), 500)
            if len(page.deliveries) >= count:
                return list(page.deliveries)
            await asyncio.sleep(0.01)


async def tried(store: Store, attempts: int) -> Delivery:
    """Wait until the only delivery was tried so often."""
    async with asyncio.timeout(20):
        while True:
            (delivery,) = (await store.outbox.list(DeliveryFilter(), 5)).deliveries
            if delivery.attempts >= attempts:
                return delivery
            await asyncio.sleep(0.01)


def verified(message: Message, secret: str) -> Any:
    """The message, if the reference library finds its signature right."""
    return standardwebhooks.Webhook(secret).verify(message.body, dict(message.headers))


def database_bytes(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in home.glob("comfyserve.db*"))


async def listening_rig(rig: Rig, receiver: Receiver) -> tuple[Deployment, Webhook]:
    deployment = await rig.deploy()
    owner = Owner(deployment.id, deployment.id)
    new = NewWebhook(receiver.url(), EVERY, base_url="http://me.example")
    return deployment, await rig.store.webhooks.create(new, owner, rig.clock.now())


async def test_a_job_is_told_from_its_start_to_its_end(home: Path, receiver: Receiver) -> None:
    async with open_rig(home) as rig, courier_of(rig.store):
        deployment, webhook = await listening_rig(rig, receiver)
        job = await rig.ended(await rig.submit(deployment, labels={"order": "7"}))
        messages = {message.type: message for message in await receiver.got(3)}
        told = {
            kind: verified(message, webhook.secrets[0].text)["data"]
            for kind, message in messages.items()
            if kind != "job.progress"
        }
        assert set(told) == {"job.started", "job.output", "job.succeeded"}
        end = told["job.succeeded"]
        assert (end["job"]["id"], end["job"]["state"]) == (job.id, "succeeded")
        assert (end["job"]["labels"], end["job"]["deployment"]) == ({"order": "7"}, "demo")
        assert end["job"]["receipt"]["total_ms"] >= 0
        assert told["job.started"]["job"]["attempt"] == 1
        (asset,) = await rig.store.assets.of_job(job.id)
        for outputs in (end["outputs"], told["job.output"]["outputs"]):
            assert [output["id"] for output in outputs] == [asset.id]
            start = f"http://me.example/d/demo/api/v2/assets/{asset.id}/content?exp="
            assert outputs[0]["url"].startswith(start)


async def test_a_receiver_that_hangs_slows_no_job(home: Path, receiver: Receiver) -> None:
    receiver.hung.add("/hook")
    async with open_rig(home) as rig, courier_of(rig.store):
        deployment, _ = await listening_rig(rig, receiver)
        for _ in range(5):
            await rig.ended(await rig.submit(deployment))
        await receiver.got(HANDS_PER_RECEIVER)
        assert receiver.waiting == HANDS_PER_RECEIVER
        assert (await rig.store.outbox.counts())[DeliveryState.PENDING] == 15
        receiver.release()
        await receiver.got(15)


async def test_progress_is_told_in_tenths(home: Path, receiver: Receiver) -> None:
    go = asyncio.Event()

    async def creep(stage: Stage) -> None:
        for node_id in stage.prompt:
            await stage.begin(node_id)
            for value in range(1, 31):  # of 40: it stays short of its end, which is not told
                await stage.say("progress", node=node_id, value=value, max=40)
        await go.wait()

    async with open_rig(home) as rig, courier_of(rig.store):
        deployment = await rig.deploy()
        rig.engines.conduct = Conduct(creep)
        new = NewWebhook(receiver.url(), frozenset({WebhookEvent.PROGRESS}))
        job = await rig.submit(deployment, webhook=new)
        await receiver.got(1)
        go.set()
        await rig.ended(job)
        values = sorted(message.json["data"]["progress"]["value"] for message in receiver.messages)
        assert len({int(value * 10) for value in values}) == len(values) < 10
        assert values[0] > 0


async def test_a_job_has_a_receiver_of_its_own(home: Path, receiver: Receiver) -> None:
    async def fail(_: Stage) -> None:
        raise NodeFailed("9", "the canvas is wet")

    async with open_rig(home) as rig, courier_of(rig.store):
        deployment = await rig.deploy()
        new = NewWebhook(receiver.url("/mine"), principal="tk_1")
        await rig.ended(await rig.submit(deployment))
        for supervisor in rig.fleet(deployment).supervisors:
            rig.engine(supervisor).behave(Conduct(fail))
        job = await rig.ended(await rig.submit(deployment, webhook=new))
        (message,) = await receiver.got(1)
        secret = rig.store.webhooks.caller_secret("tk_1")
        told = verified(message, secret)
        assert (told["type"], told["data"]["job"]["id"]) == ("job.failed", job.id)
        assert told["data"]["job"]["error"]["message"] == "the canvas is wet"
        assert secret != rig.store.webhooks.caller_secret("tk_2")


async def test_waiting_jobs_are_told_when_they_are_canceled(
    store: Store, receiver: Receiver
) -> None:
    await listen(store, receiver.url())
    async with courier_of(store):
        await end(store)
        (message,) = await receiver.got(1)
        assert message.type == "job.canceled"
        assert (await settled(store, DeliveryState.DELIVERED))[0].status == 204


async def test_a_message_that_is_refused_comes_again_under_its_id(
    store: Store, receiver: Receiver
) -> None:
    receiver.answers, clock = [500, 503], HandClock()
    await listen(store, receiver.url())
    async with courier_of(store, clock) as courier:
        await end(store)
        first = await tried(store, 1)
        assert (first.state, first.error) == ("pending", "it answered 500")
        assert 4 < first.next_at - clock.now() < 6
        clock.ahead_s += 6
        courier.look()
        second = await tried(store, 2)
        assert 20 < second.next_at - clock.now() < 31
        clock.ahead_s += 31
        courier.look()
        (delivery,) = await settled(store, DeliveryState.DELIVERED)
        messages = await receiver.got(3)
        assert {message.id for message in messages} == {delivery.id}
        assert (delivery.attempts, courier.tries) == (3, {"taken": 1, "refused": 2})
        assert len({message.body for message in messages}) == 1


async def test_a_dead_receiver_is_given_up_and_can_be_replayed(
    store: Store, receiver: Receiver
) -> None:
    await receiver.close()
    clock = HandClock()
    await listen(store, receiver.url())
    async with courier_of(store, clock) as courier:
        await end(store)
        for attempt in range(1, 12):
            delivery = await tried(store, attempt)
            clock.ahead_s += max(0.0, delivery.next_at - clock.now()) + 400
            courier.look()
        (dead,) = await settled(store, DeliveryState.DEAD)
        assert "cannot be reached" in dead.error
        assert clock.ahead_s < 1.3 * DAY_S
        assert (await store.outbox.counts())[DeliveryState.DEAD] == 1
        await receiver.listen()
        again = await store.outbox.replay(dead.id, clock.now())
        assert (again.attempts, again.state) == (0, "pending")
        (message,) = await receiver.got(1)
        assert message.id == dead.id
        await settled(store, DeliveryState.DELIVERED)


async def test_what_was_committed_before_a_crash_is_delivered_after_it(
    home: Path, receiver: Receiver
) -> None:
    async with open_store(home) as store:
        await furnish(store)
        await listen(store, receiver.url())
        await end(store, 3)
    assert receiver.messages == []
    async with open_store(home) as store, courier_of(store):
        assert len(await receiver.got(3)) == 3
        await settled(store, DeliveryState.DELIVERED, 3)


async def test_receivers_that_hang_hold_up_nobody_else(store: Store, receiver: Receiver) -> None:
    """Each of the dead ones has a host of its own, as 127.0.0.0/8 allows."""
    async with courier_of(store):
        receiver.hung.add("/dead")
        for number in range(2, 12):
            await listen(store, f"http://127.0.0.{number}:1/hook")
        await listen(store, receiver.url("/dead"))
        await end(store, 20)
        await receiver.got(HANDS_PER_RECEIVER, "/dead")
        async with Receiver() as other:
            await listen(store, other.url("/alive"))
            await end(store, 20)
            assert len(await other.got(20, "/alive")) == 20
        assert receiver.waiting == HANDS_PER_RECEIVER < HANDS_FOR_THE_DOUBTFUL
        receiver.release()
        await receiver.got(40, "/dead")


async def test_a_receiver_that_says_gone_is_not_asked_again(
    store: Store, receiver: Receiver
) -> None:
    receiver.answers = [410]
    webhook = await listen(store, receiver.url())
    await end(store)
    async with courier_of(store):
        (dead,) = await settled(store, DeliveryState.DEAD)
        assert dead.error == "it answered 410"
        await end(store)
        assert (await store.outbox.list(DeliveryFilter(), 5)).deliveries == [dead]
        ended = await store.webhooks.get(webhook.id)
        assert (ended.ended_by, ended.ended_at is not None) == ("it answered 410", True)
        await store.outbox.replay(dead.id, SystemClock().now())
        await settled(store, DeliveryState.DELIVERED)
        assert (await store.webhooks.get(webhook.id)).ended_at is None


async def test_a_redirect_is_not_followed(store: Store, receiver: Receiver) -> None:
    receiver.answers, receiver.headers = [307], {"Location": receiver.url("/other")}
    await listen(store, receiver.url())
    async with courier_of(store):
        await end(store)
        assert (await tried(store, 1)).error.endswith("redirects are not followed")
    assert [message.path for message in receiver.messages] == ["/hook"]


async def test_an_address_that_became_private_is_not_reached(
    store: Store, receiver: Receiver
) -> None:
    await listen(store, receiver.url())
    async with (
        Outside(OutsidePolicy()) as outside,
        Courier(store, outside, HandClock(), lambda: 0.5, "http://me.example"),
    ):
        await end(store)
        assert "not a public address" in (await tried(store, 1)).error
    assert receiver.messages == []


async def test_a_test_message_is_sent_once_and_not_kept(store: Store, receiver: Receiver) -> None:
    webhook = await listen(store, receiver.url())
    async with courier_of(store) as courier:
        reply = await courier.try_out(webhook, "msg_test")
        assert reply.is_taken
        (message,) = receiver.messages
        assert verified(message, webhook.secrets[0].text)["type"] == "webhook.test"
        await receiver.close()
        assert "cannot be reached" in (await courier.try_out(webhook, "msg_test")).reason
    assert (await store.outbox.list(DeliveryFilter(), 5)).deliveries == []


async def test_a_rotated_secret_signs_beside_the_old_one(store: Store, receiver: Receiver) -> None:
    webhook = await listen(store, receiver.url())
    rotated = await store.webhooks.rotate(webhook.id, SystemClock().now())
    async with courier_of(store):
        await end(store)
        (message,) = await receiver.got(1)
    for secret in (webhook.secrets[0], rotated.secrets[0]):
        verified(message, secret.text)


async def test_removed_webhooks_and_pruned_jobs_leave_nothing(
    home: Path, store: Store, receiver: Receiver
) -> None:
    webhook = await listen(store, "https://a.example/?key=SECRET")
    new = a_new_job(webhook=NewWebhook("https://b.example/?key=SECRET"))
    made = await store.jobs.enqueue(new, 10.0)
    await store.jobs.cancel(made.job.id, 11.0)
    assert len((await store.outbox.list(DeliveryFilter(job_id=new.id), 5)).deliveries) == 2
    assert [each.id for each in await store.webhooks.list()] == [webhook.id]
    await store.collect(SystemClock().now(), jobs_ended_before=12.0)
    assert (await store.outbox.list(DeliveryFilter(), 5)).deliveries == []
    await end(store)
    await store.webhooks.delete(webhook.id)
    assert await store.webhooks.list() == []
    assert (await store.outbox.list(DeliveryFilter(), 5)).deliveries == []
    assert b"SECRET" not in database_bytes(home)


async def test_old_deliveries_are_pruned(store: Store, receiver: Receiver) -> None:
    await listen(store, receiver.url())
    async with courier_of(store):
        await end(store)
        await settled(store, DeliveryState.DELIVERED)
    now = SystemClock().now()
    await store.collect(now + 2 * DAY_S)
    assert (await store.outbox.counts())[DeliveryState.DELIVERED] == 1
    await store.collect(now + 4 * DAY_S)
    assert (await store.outbox.counts())[DeliveryState.DELIVERED] == 0


async def test_deliveries_come_in_pages(store: Store) -> None:
    await listen(store, "https://a.example/")
    await end(store, 5)
    first = await store.outbox.list(DeliveryFilter(), 3)
    rest = await store.outbox.list(DeliveryFilter(), 3, first.next_cursor)
    assert len({each.id for each in (*first.deliveries, *rest.deliveries)}) == 5
    assert rest.next_cursor is None
    with pytest.raises(InvalidInput, match="not a cursor"):
        await store.outbox.list(DeliveryFilter(), 3, "msg_none")
