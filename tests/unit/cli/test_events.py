"""The event stream, as lines off the wire."""

import contextlib
import json

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from comfyserve.cli.events import EngineMessage, JobEnded, JobSeen, StageReached, read_events
from comfyserve.domain.job import JobState
from comfyserve.testing import control_answers as answers


def lines(text: str) -> list[bytes]:
    return text.encode().splitlines(keepends=True)


def test_a_stream_is_read_as_the_server_writes_it() -> None:
    job = json.dumps(answers.job(JobState.QUEUED, position=2))
    ended = json.dumps(answers.job(outputs=(answers.output("http://x"),)))
    text = (
        f"event: job\ndata: {job}\n\n"
        'event: stage\ndata: {"stage":"starting","position":0,"replica":"rp_a","detail":"importing"}\n\n'
        ": still here\n\n"
        'event: message\ndata: {"type":"executing","data":{"node":"3"}}\n\n'
        "event: news_of_a_later_version\ndata: {}\n\n"
        f"event: end\ndata: {ended}\n\n"
    )
    seen = list(read_events(lines(text)))
    first, stage, heartbeat, message, last = seen
    assert isinstance(first, JobSeen)
    assert first.job.position == 2
    assert stage == StageReached("starting", 0, "rp_a", "importing")
    assert heartbeat is None
    assert message == EngineMessage("executing", {"node": "3"})
    assert isinstance(last, JobEnded)
    assert last.job.outputs[0].name == "a.png"
    assert last.job.receipt == answers.receipt()


def test_data_over_several_lines_and_other_line_ends_are_the_standards() -> None:
    text = 'event: stage\r\ndata: {"stage":\r\ndata: "queued"}\r\nid: 3\r\n\r\n'
    assert list(read_events(lines(text))) == [StageReached("queued")]


def test_an_event_that_is_cut_off_is_none() -> None:
    assert list(read_events(lines('event: stage\ndata: {"stage":"queued"}\n'))) == []


def test_an_event_of_another_shape_is_an_error() -> None:
    with pytest.raises(msgspec.MsgspecError):
        list(read_events(lines("event: job\ndata: {}\n\n")))


@given(st.lists(st.binary(max_size=40)))
def test_no_stream_breaks_the_reader(pieces: list[bytes]) -> None:
    with contextlib.suppress(msgspec.MsgspecError):
        list(read_events(b"".join(pieces).splitlines(keepends=True)))


@given(st.lists(st.sampled_from(["queued", "placing", "starting", "running", "saving"])))
def test_every_event_comes_once_and_in_order(stages: list[str]) -> None:
    text = "".join(f'event: stage\ndata: {{"stage":"{stage}"}}\n\n: beat\n\n' for stage in stages)
    seen = [event for event in read_events(lines(text)) if event is not None]
    assert seen == [StageReached(stage) for stage in stages]
