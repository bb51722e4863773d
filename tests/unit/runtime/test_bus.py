"""The bus: each listener hears its deployment, and what is dropped is never the story of a job."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.domain.events import (
    BusEvent,
    EngineFrame,
    EngineMessage,
    JobChanged,
    Preview,
    QueueChanged,
    ReplicaChanged,
)
from comfyserve.domain.job import Job, JobState
from comfyserve.domain.replica import Cause, Replica, ReplicaState
from comfyserve.runtime.bus import Bus, Subscription, of_job

JOB = Job("j1", "dp_1", "rv_1", "j1", 1.0, JobState.QUEUED, created_at=1.0)
REPLICA = Replica("rp_1", "dp_1", "rv_1", ReplicaState.READY, Cause.WORK, 1.0, 1.0)


def message(kind: str, job_id: str = "j1") -> EngineMessage:
    return EngineMessage("dp_1", job_id, None, kind, {})


def preview(job_id: str = "j1") -> Preview:
    return Preview("dp_1", job_id, None, {}, b"picture")


STORY = (
    message("executed"),
    message("execution_success"),
    JobChanged(JOB),
    ReplicaChanged(REPLICA),
)
EXPENDABLE = (
    preview(),
    message("progress"),
    message("progress_state"),
    QueueChanged("dp_1", 3),
    EngineFrame("dp_1", "j1", None, b"text"),
)


async def all_of(subscription: Subscription) -> list[BusEvent]:
    return [await subscription.get() for _ in range(len(subscription))]


async def test_listeners_hear_their_own_deployment_in_order() -> None:
    bus = Bus()
    with bus.subscribe("dp_1") as one, bus.subscribe("dp_1") as two, bus.subscribe("dp_2") as other:
        for event in STORY:
            bus.publish(event)
        bus.publish(QueueChanged("dp_2", 1))
        assert await all_of(one) == list(STORY)
        assert await all_of(two) == list(STORY)
        assert await all_of(other) == [QueueChanged("dp_2", 1)]
    bus.publish(STORY[0])
    assert len(one) == 0


async def test_a_listener_waits_for_news() -> None:
    bus = Bus()
    with bus.subscribe("dp_1") as news:
        async with asyncio.TaskGroup() as group:
            heard = group.create_task(news.get())
            await asyncio.sleep(0)
            assert not heard.done()
            bus.publish(STORY[0])
        assert heard.result() is STORY[0]


async def test_what_is_not_wanted_takes_no_room() -> None:
    bus = Bus()
    with bus.subscribe("dp_1", lambda event: isinstance(event, JobChanged), limit=2) as news:
        for event in (*EXPENDABLE, *STORY):
            bus.publish(event)
        assert await all_of(news) == [JobChanged(JOB)]
        assert news.dropped == 0


@given(st.lists(st.sampled_from([*STORY, *EXPENDABLE]), max_size=60), st.integers(1, 10))
def test_the_story_is_never_dropped_and_the_rest_oldest_first(
    events: list[BusEvent], limit: int
) -> None:
    subscription = Subscription(lambda _: True, limit)
    for event in events:
        subscription.offer(event)
    left = list(subscription._queue)
    assert [e for e in left if e in STORY] == [e for e in events if e in STORY]
    assert len(left) == len(events) - subscription.dropped
    kept = [event for event in left if event in EXPENDABLE]
    assert len(left) <= limit or not kept
    assert not subscription.dropped or len(left) >= limit


async def test_previews_go_before_progress() -> None:
    bus = Bus()
    with bus.subscribe("dp_1", limit=3) as news:
        for event in (message("progress"), preview(), message("executed"), QueueChanged("dp_1", 1)):
            bus.publish(event)
        assert preview() not in await all_of(news)
        assert news.dropped == 1


async def test_a_picture_that_a_node_sent_goes_last() -> None:
    picture = Preview("dp_1", "j1", "c", {"image_type": "image/png"}, b"whole")
    bus = Bus()
    with bus.subscribe("dp_1", limit=2) as news:
        for event in (picture, preview(), message("progress"), message("executed")):
            bus.publish(event)
        assert await all_of(news) == [picture, message("executed")]
    with bus.subscribe("dp_1", limit=1) as news:
        for event in (picture, message("executed")):
            bus.publish(event)
        assert await all_of(news) == [message("executed")]


async def test_a_newer_preview_pushes_an_older_one_out() -> None:
    bus = Bus()
    with bus.subscribe("dp_1", limit=2) as news:
        for number in range(5):
            bus.publish(Preview("dp_1", "j1", None, {}, bytes([number])))
        heard = await all_of(news)
        assert [event.image for event in heard if isinstance(event, Preview)] == [b"\3", b"\4"]


@pytest.mark.parametrize("event", [*STORY, *EXPENDABLE])
def test_a_job_is_told_its_own_and_what_concerns_all(event: BusEvent) -> None:
    assert of_job("j1")(event)
    concerns_all = isinstance(event, QueueChanged | ReplicaChanged)
    assert of_job("another")(event) is concerns_all
