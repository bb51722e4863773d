"""The life of a build."""

import pytest

from comfyserve.domain.build import Build, BuildEvent, BuildResult, BuildState, step
from comfyserve.domain.errors import IllegalTransition

_NEW = Build("bd_x", "digest", "{}", is_fresh=False, state=BuildState.QUEUED, created_at=1.0)


def test_a_build_begins_and_ends_once() -> None:
    running = step(_NEW, BuildEvent.BEGUN, 2.0)
    assert (running.state, running.started_at, running.finished_at) == ("running", 2.0, None)
    done = step(running, BuildEvent.BUILT, 3.0, BuildResult(size_bytes=5))
    assert (done.state, done.finished_at, done.result.size_bytes) == ("succeeded", 3.0, 5)
    assert done.is_terminal
    for event in BuildEvent:
        with pytest.raises(IllegalTransition):
            step(done, event, 4.0)


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (BuildEvent.BROKEN, BuildState.FAILED),
        (BuildEvent.CANCELED, BuildState.CANCELED),
        (BuildEvent.LOST, BuildState.FAILED),
    ],
)
def test_how_a_running_build_can_end(event: BuildEvent, state: BuildState) -> None:
    assert step(step(_NEW, BuildEvent.BEGUN, 2.0), event, 3.0).state is state


def test_a_waiting_build_cannot_have_built_anything() -> None:
    assert step(_NEW, BuildEvent.CANCELED, 2.0).state is BuildState.CANCELED
    with pytest.raises(IllegalTransition):
        step(_NEW, BuildEvent.BUILT, 2.0)
