"""Progress: one number that only grows, whatever an engine says."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from comfyserve.domain.progress import Progress, ProgressTracker

PROMPT: dict[str, Any] = {
    "1": {"class_type": "Load", "inputs": {"name": "x"}},
    "2": {"class_type": "Sample", "inputs": {"model": ["1", 0], "steps": 8}},
    "3": {"class_type": "Save", "inputs": {"images": ["2", 0], "other": ["77", 0]}},
    "4": {"class_type": "Unused", "inputs": {}},
    "5": "nonsense",
}


def tracker() -> ProgressTracker:
    return ProgressTracker(PROMPT, ("3",))


def test_only_what_the_outputs_need_is_counted() -> None:
    assert tracker().snapshot() == Progress(0.0, 0, 3)


def test_a_sampler_weighs_its_steps() -> None:
    told = tracker()
    told.hear("execution_cached", {"nodes": ["1", "4"]})
    assert told.snapshot() == Progress(round(1 / 11, 4), 1, 3)
    told.hear("executing", {"node": "2"})
    told.hear("progress", {"node": "2", "value": 4, "max": 8})
    assert told.snapshot() == Progress(round(5.5 / 11, 4), 1, 3, "2", "Sample", 4, 8)
    told.hear("executing", {"node": "3"})
    assert told.snapshot() == Progress(round(10 / 11, 4), 2, 3, "3", "Save")
    told.hear("executed", {"node": "3", "output": {}})
    told.hear("executing", {"node": None})
    assert told.snapshot() == Progress(1.0, 3, 3)


def test_newer_engines_tell_all_states_at_once() -> None:
    told = tracker()
    states = {
        "1": {"state": "finished", "value": 1, "max": 1},
        "2": {"state": "running", "value": 2, "max": 8},
        "3": {"state": "pending", "value": 0, "max": 1},
        "4": {"state": "running"},
        "9": "nonsense",
    }
    told.hear("progress_state", {"nodes": states})
    assert told.snapshot() == Progress(round((1 + 9 / 4) / 11, 4), 1, 3, "2", "Sample", 2, 8)


def test_nodes_that_a_node_makes_count_as_that_node() -> None:
    told = tracker()
    told.hear("progress_state", {"nodes": {"2.0.0.3": {"state": "finished"}}})
    assert told.snapshot().nodes_done == 0
    told.hear("executing", {"node": "2.0.0.3"})
    assert told.snapshot().current_node == "2"
    told.hear("executed", {"node": "2.0.0.4", "display_node": "2"})
    assert told.snapshot().nodes_done == 1


def test_a_prompt_without_nodes_has_no_progress() -> None:
    told = ProgressTracker({}, ("1",))
    told.hear("executing", {"node": "1"})
    assert told.snapshot() == Progress(0.0, 0, 0)


json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["1", "2", "2.1", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
states = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(["running", "finished", "pending"]) | json,
        "value": json,
        "max": json,
    },
)
messages = st.tuples(
    st.sampled_from(
        ["executing", "executed", "execution_cached", "progress", "progress_state", "status"]
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "node": json,
            "display_node": json,
            "nodes": json | st.dictionaries(st.sampled_from(["1", "2", "3", "4"]), states | json),
            "value": json,
            "max": json,
        },
    ),
)


@given(st.lists(messages, max_size=20))
def test_it_never_goes_back_and_never_raises(told: list[tuple[str, dict[str, Any]]]) -> None:
    watched, last = tracker(), 0.0
    for kind, data in told:
        watched.hear(kind, data)
        now = watched.snapshot()
        assert last <= now.value <= 1.0
        assert 0 <= now.nodes_done <= now.nodes_total == 3
        last = now.value


def test_nonsense_about_steps_changes_nothing() -> None:
    told = tracker()
    told.hear("executing", {"node": "2"})
    for value, most in (("1", 8), (1, "8"), (9, 8), (-1, 8), (0, 0), (1.0, float("inf"))):
        told.hear("progress", {"value": value, "max": most})
    told.hear("progress", {"node": "1", "value": 1, "max": 2})
    assert told.snapshot() == Progress(round(0.5 / 11, 4), 0, 3, "2", "Sample")


def test_a_node_that_two_need_is_counted_once() -> None:
    prompt: dict[str, Any] = {
        "1": {"class_type": "A", "inputs": {}},
        "2": {"class_type": "B", "inputs": {"a": ["1", 0], "b": ["1", 1], "c": ["1"], "d": [5, 0]}},
    }
    assert ProgressTracker(prompt, ("2", "1")).snapshot().nodes_total == 2
