"""The error tree: one base, one code each, and the tree of its docstring is the real one."""

import re
from collections.abc import Iterator

import pytest

from comfyserve.domain import errors
from comfyserve.domain.errors import (
    ComfyserveError,
    DeployFailed,
    EngineError,
    IllegalTransition,
    InvalidInput,
    QueueFull,
    StartFailed,
)


def tree(kind: type[ComfyserveError]) -> Iterator[type[ComfyserveError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


ALL = tuple(tree(ComfyserveError))


def test_every_code_is_its_own_and_stable_in_form() -> None:
    codes = [kind.code for kind in ALL]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_the_tree_at_the_top_of_the_module_names_all_of_them() -> None:
    drawn = re.findall(r"^[│ ├└─]*([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)
    assert {kind.__name__ for kind in ALL} <= set(drawn)


def test_every_error_says_when_it_is_raised() -> None:
    assert all(kind.__doc__ for kind in ALL)


def test_a_message_and_a_more_special_code() -> None:
    plain, special = InvalidInput("no such field"), InvalidInput("bad name", code="invalid_name")
    assert (plain.message, plain.code) == ("no such field", "invalid_input")
    assert special.code == "invalid_name"
    assert InvalidInput.code == "invalid_input"


@pytest.mark.parametrize("kind", [DeployFailed, StartFailed, EngineError])
def test_an_engine_failure_carries_its_evidence(
    kind: type[DeployFailed | StartFailed | EngineError],
) -> None:
    failure = kind("it ended", code="oom", log_tail=["a", "b"])
    assert (failure.message, failure.code, failure.log_tail) == ("it ended", "oom", ("a", "b"))
    assert kind("it ended").log_tail == ()


def test_a_full_queue_says_when_to_come_back() -> None:
    assert QueueFull("full", retry_after_s=7).retry_after_s == 7


def test_an_illegal_transition_names_the_pair() -> None:
    error = IllegalTransition("rp_1", "stopped", "drain")
    assert error.message == "rp_1 cannot take 'drain' in state 'stopped'"
