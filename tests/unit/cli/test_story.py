"""Events of a job, told as lines: tables of events in, lines out."""

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from comfyserve.cli.answers import Job
from comfyserve.cli.events import EngineMessage, JobEnded, JobEvent, JobSeen, StageReached
from comfyserve.cli.story import Line, Mark, Story
from comfyserve.domain.job import JobState
from comfyserve.testing import control_answers as answers


def job(state: JobState) -> Job:
    return msgspec.convert(answers.job(state), Job)


def stage(
    name: str, *, position: int | None = None, replica: str | None = None, detail: str | None = None
) -> StageReached:
    return StageReached(name, position, replica, detail)


def message(kind: str, **data: object) -> EngineMessage:
    return EngineMessage(kind, data)


def tell(story: Story, *events: JobEvent) -> list[Line]:
    """Take events a second apart."""
    lines = []
    for second, event in enumerate(events):
        lines += story.take(event, float(second))
    return lines


LABELS = {"1": "Photo", "2": "Blur", "9": "Save Image"}


def test_a_job_from_the_queue_to_its_end() -> None:
    lines = tell(
        Story(LABELS),
        JobSeen(job(JobState.QUEUED)),
        stage("queued", position=2),
        stage("queued", position=1),
        stage("placing", position=0),
        stage("starting", position=0, replica="rp_a"),
        stage("starting", position=0, replica="rp_a", detail="importing torch"),
        stage("queued", position=0),
        stage("running", replica="rp_a"),
        message("execution_start"),
        message("execution_cached", nodes=["1"]),
        message("executing", node="2", display_node="2"),
        message("progress", node="2", value=5, max=10),
        message("executing", node="9", display_node="9"),
        message("executed", node="9", output={}),
        message("execution_success"),
        message("executing", node=None),
        stage("saving"),
        JobEnded(job(JobState.SUCCEEDED)),
    )
    assert lines == [
        Line(Mark.DONE, "queued, 1 before it", 2.0),
        Line(Mark.DONE, "finding a place", 1.0),
        Line(Mark.DONE, "waking rp_a (importing torch)", 2.0),
        Line(Mark.DONE, "handing it to the replica", 1.0),
        Line(Mark.CACHED, "1 Photo", None),
        Line(Mark.DONE, "running", 3.0),
        Line(Mark.DONE, "2 Blur", 2.0),
        Line(Mark.DONE, "9 Save Image", 3.0),
        Line(Mark.DONE, "saving the outputs", 1.0),
    ]


def test_steps_are_shown_of_the_node_that_runs() -> None:
    story = Story(LABELS)
    tell(story, message("executing", node="2"), message("progress", node="2", value=3, max=20))
    assert story.doing is not None
    assert (story.doing.text, story.doing.value, story.doing.maximum) == ("2 Blur", 3.0, 20.0)
    states = {
        "1": {"state": "finished", "value": 1, "max": 1},
        "2": {"state": "running", "value": 4, "max": 20},
    }
    story.take(message("progress_state", nodes=states), 5.0)
    assert story.doing.value == 4.0


def test_a_follower_who_comes_late_sees_the_node_by_its_steps() -> None:
    story = Story(LABELS)
    tell(story, stage("running"), message("progress", node="2", value=3, max=20))
    assert story.doing is not None
    assert story.doing.node_id == "2"


def test_a_node_made_by_another_one_is_shown_as_that_one() -> None:
    story = Story(LABELS)
    assert tell(
        story,
        message("executing", node="2.0.1", display_node="2"),
        message("executing", node="2.0.2", display_node="2"),
        message("executing", node="77"),
    ) == [Line(Mark.DONE, "2 Blur", 2.0)]
    assert story.doing is not None
    assert story.doing.text == "node 77"


def test_a_failing_node_is_named_with_its_reason() -> None:
    error = {"node_id": "2", "node_type": "ImageBlur", "exception_message": "out of memory\n"}
    assert tell(
        Story(LABELS),
        message("executing", node="2"),
        message("execution_error", **error),
        JobEnded(job(JobState.FAILED)),
    ) == [Line(Mark.FAILED, "2 Blur: out of memory")]


def test_a_lost_attempt_is_said_and_the_story_begins_again() -> None:
    lines = tell(
        Story(LABELS),
        stage("running", replica="rp_a"),
        message("executing", node="2"),
        stage("queued", position=0),
        stage("starting", replica="rp_b"),
        stage("running", replica="rp_b"),
    )
    assert Line(Mark.FAILED, "the attempt was lost; the job is tried again") in lines
    assert not any(line.mark is Mark.DONE and line.text == "2 Blur" for line in lines)


def test_a_node_that_ran_when_the_job_was_canceled_is_not_called_done() -> None:
    assert tell(
        Story(LABELS), message("executing", node="2"), JobEnded(job(JobState.CANCELED))
    ) == [Line(Mark.FAILED, "2 Blur", 1.0)]


@pytest.mark.parametrize("position", [None, 0, 4])
def test_what_passes_quicker_than_the_eye_leaves_no_line(position: int | None) -> None:
    story = Story({})
    story.take(stage("queued", position=position), 1.0)
    assert story.take(stage("running"), 1.01) == []


_KINDS = [
    "executing",
    "progress",
    "progress_state",
    "execution_cached",
    "execution_error",
    "custom",
]
_DATA = st.dictionaries(
    st.sampled_from(["node", "display_node", "node_id", "value", "max", "exception_message"]),
    st.none() | st.integers() | st.text(max_size=3),
)
_EVENTS = st.one_of(
    st.builds(
        StageReached,
        st.sampled_from(["queued", "placing", "starting", "running", "saving", "later"]),
        st.none() | st.integers(0, 5),
        st.none() | st.just("rp_a"),
    ),
    st.builds(EngineMessage, st.sampled_from(_KINDS), _DATA),
)


@given(st.lists(_EVENTS, max_size=30))
def test_no_order_of_events_breaks_the_story_and_time_never_runs_backwards(
    events: list[JobEvent],
) -> None:
    story = Story(LABELS)
    lines = tell(story, *events, JobEnded(job(JobState.SUCCEEDED)))
    assert story.doing is None
    assert all(line.seconds is None or line.seconds >= 0 for line in lines)
    assert all(line.text for line in lines)
