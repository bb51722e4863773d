"""Webhooks: what is signed, what is tried again and when, what a message says."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.clock import SystemClock
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.job import Job, JobError, JobState
from comfyserve.domain.progress import Progress
from comfyserve.domain.webhook import (
    ENDINGS,
    OVERLAP_S,
    Delivery,
    DeliveryState,
    Reply,
    Secret,
    WebhookEvent,
    event_of,
    make_secret,
    read_events,
    replayed,
    rotated,
    settle,
    sign,
)
from comfyserve.domain.webhook_body import (
    Links,
    OutputFacts,
    job_facts,
    message_of,
    output_facts,
    progress_facts,
)

DAY_S = 24 * 3600.0
JOB = Job("j1", "dp_1", "rv_1", "j1", 1.0, JobState.SUCCEEDED, 100.0, finished_at=160.5)
OUTPUT = OutputFacts("a1", "9", "x.png", "output", "image/png", 3, "blake3:ab")
LINKS = Links("https://me.example", "studio", lambda asset_id: f"sig={asset_id}")


def a_delivery(**changes: Any) -> Delivery:
    delivery = Delivery(
        id="msg_1",
        webhook_id="wh_1",
        deployment_id="dp_1",
        job_id="j1",
        event=WebhookEvent.SUCCEEDED,
        origin="https://a.example",
        state=DeliveryState.PENDING,
        created_at=0.0,
        queued_at=0.0,
        attempts=0,
        next_at=0.0,
    )
    return replace(delivery, **changes)


def story(replies: list[Reply], jitter: float = 0.5) -> list[Delivery]:
    """What a delivery becomes when each try is made just when it is due."""
    steps = [a_delivery()]
    for reply in replies:
        if steps[-1].state is not DeliveryState.PENDING:
            break
        steps.append(settle(steps[-1], reply, steps[-1].next_at, jitter))
    return steps


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_a_dead_receiver_is_tried_for_a_day_and_then_given_up(jitter: float) -> None:
    steps = story([Reply(error="it cannot be reached")] * 50, jitter)
    last = steps[-1]
    assert (last.state, last.attempts, last.error) == ("dead", 11, "it cannot be reached")
    assert last.ended_at is not None
    assert 0.75 * DAY_S < last.ended_at < 1.25 * DAY_S
    gaps = [after.next_at - before.next_at for before, after in pairwise(steps[:-1])]
    assert gaps == sorted(gaps)
    assert gaps[0] < 7


@given(
    st.lists(
        st.builds(Reply, st.sampled_from([None, 200, 204, 301, 404, 410, 429, 500])), max_size=30
    ),
    st.floats(0, 1),
    st.floats(0, 1e9),
)
def test_every_story_ends_within_a_day_and_some_hours(
    replies: list[Reply], jitter: float, wish_s: float
) -> None:
    steps = story([replace(reply, retry_after_s=wish_s) for reply in replies], jitter)
    for before, after in pairwise(steps):
        assert after.attempts == before.attempts + 1
        assert after.next_at - before.next_at < 12.5 * 3600
        assert (after.ended_at is None) == (after.state is DeliveryState.PENDING)
    assert steps[-1].next_at < 31 * 3600
    taken = [reply.is_taken for reply in replies[: len(steps) - 1]]
    assert (steps[-1].state is DeliveryState.DELIVERED) == any(taken)


def test_a_receiver_may_ask_for_time_but_not_for_ever() -> None:
    asked = settle(a_delivery(), Reply(503, retry_after_s=600.0), 10.0, 0.5)
    assert (asked.next_at, asked.status, asked.error) == (610.0, 503, "it answered 503")
    assert settle(a_delivery(), Reply(503, retry_after_s=1e9), 10.0, 0.5).next_at == 3610.0


def test_gone_ends_it_at_once_and_a_redirect_says_why() -> None:
    gone = Reply(410)
    assert (gone.is_farewell, settle(a_delivery(), gone, 5.0, 0.5).state) == (True, "dead")
    assert Reply(302).reason == "it answered 302; redirects are not followed"
    assert [Reply(status).is_overload for status in (None, 500, 429, 404, 200)] == [
        True, True, True, False, False
    ]  # fmt: skip


def test_a_replay_has_all_its_tries_again_under_the_same_id() -> None:
    dead = story([Reply(500)] * 50)[-1]
    again = replayed(dead, 9e6)
    assert (again.id, again.attempts, again.error, again.next_at) == ("msg_1", 0, "", 9e6)
    assert settle(again, Reply(500), 9e6, 0.5).state is DeliveryState.PENDING


@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32), st.floats(0, 60))
def test_the_reference_library_verifies_what_is_signed(
    body: bytes, entropy: bytes, age_s: float
) -> None:
    now = SystemClock().now() - age_s
    secret = make_secret(entropy)
    headers = sign(
        [Secret(secret)], "msg_1", b'{"a":' + json.dumps(body.hex()).encode() + b"}", now
    )
    verified = standardwebhooks.Webhook(secret).verify(f'{{"a":{json.dumps(body.hex())}}}', headers)
    assert verified == {"a": body.hex()}
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(secret).verify("{}", headers)


def test_after_a_rotation_both_secrets_sign_for_a_day() -> None:
    now = SystemClock().now()
    old = Secret(make_secret(b"o" * 32))
    both = rotated([old], b"n" * 32, now - OVERLAP_S / 2)
    headers = sign(both, "msg_1", b"{}", now)
    for secret in both:
        standardwebhooks.Webhook(secret.text).verify("{}", headers)
    later = sign(both, "msg_1", b"{}", now + OVERLAP_S)
    assert later["webhook-signature"].count("v1,") == 1
    again = rotated(both, b"m" * 32, now + OVERLAP_S)
    assert [secret.text for secret in again] == [make_secret(b"m" * 32), make_secret(b"n" * 32)]


def test_a_secret_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput):
        sign([Secret("whsec_?")], "msg_1", b"", 0.0)


def test_events_by_name() -> None:
    assert read_events([]) == ENDINGS
    assert read_events([" started", "output"]) == {"started", "output"}
    with pytest.raises(InvalidInput, match=r"no event 'done'.* started, progress, output"):
        read_events(["done"])


def test_which_states_are_told() -> None:
    told = {state: event_of(replace(JOB, state=state)) for state in JobState}
    assert told == {
        "queued": None, "running": "started", "succeeded": "succeeded", "failed": "failed",
        "canceling": None, "canceled": "canceled", "expired": "failed",
    }  # fmt: skip


def test_a_message_has_facts_and_links() -> None:
    failed = replace(JOB, error=JobError("job_timeout", "too long"), labels={"a": "b"})
    message = message_of(WebhookEvent.SUCCEEDED, job_facts(failed, None, [OUTPUT]), 160.5, LINKS)
    assert (message["type"], message["timestamp"]) == ("job.succeeded", "1970-01-01T00:02:40.500Z")
    job = message["data"]["job"]
    assert (job["deployment"], job["url"]) == ("studio", "https://me.example/api/v1/jobs/j1")
    assert (job["error"]["code"], job["labels"], job["started_at"]) == (
        "job_timeout",
        {"a": "b"},
        None,
    )
    (output,) = message["data"]["outputs"]
    assert output["url"] == "https://me.example/d/studio/api/v2/assets/a1/content?sig=a1"
    json.dumps(message)


def test_small_messages_name_their_job() -> None:
    made = message_of(WebhookEvent.OUTPUT, output_facts("j1", OUTPUT), 1.0, LINKS)
    assert made["data"]["outputs"][0]["name"] == "x.png"
    told = message_of(WebhookEvent.PROGRESS, progress_facts("j1", Progress(0.5, 1, 2)), 1.0, LINKS)
    assert told["data"]["progress"]["value"] == 0.5
    assert told["data"]["job"]["id"] == "j1"
