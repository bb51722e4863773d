"""Values: texts and numbers as the frontend's JavaScript makes them."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.workflow.values import (
    UNSET,
    as_number,
    as_text,
    as_text_box,
    dynamic_prompt,
    first_choice,
    format_date,
    replace_patterns,
    round_to_precision,
    round_to_step,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (UNSET, ""), (True, "true"), (3.0, "3"), (2.5, "2.5"), ("x", "x"),
        ([1, [2, None]], "1,2,"), ({"a": 1}, "[object Object]"),
    ],
)  # fmt: skip
def test_texts_are_javascripts(value: object, text: str) -> None:
    assert as_text(value) == text


def test_a_text_box_has_plain_line_feeds() -> None:
    assert as_text_box("a\r\nb\rc") == "a\nb\nc"


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (None, 0), (True, 1), ("7", 7), ("", 0), ("2.50", 2.5), ("x", None), ([], None),
        (math.inf, None), (10**400, None), ("9" * 500, None),
    ],
)  # fmt: skip
def test_numbers_are_javascripts(value: object, number: float | None) -> None:
    assert as_number(value) == number


def test_whole_numbers_are_rounded_to_their_step_from_the_minimum() -> None:
    assert round_to_step(513, step=8, minimum=16) == 512
    assert round_to_step(21.5, step=8, minimum=1) == 25
    assert round_to_step(2.5, step=1, minimum=0) == 3
    assert round_to_step(2**64 - 1, step=1, minimum=0) == 2**64 - 1
    assert math.isnan(round_to_step("x", step=1, minimum=0))


def test_fractions_are_rounded_to_their_precision() -> None:
    assert round_to_precision(0.126, unit=0.01, precision=2) == 0.13
    assert round_to_precision("2.0", unit=0.1, precision=1) == 2
    assert math.isnan(round_to_precision(10**400, unit=0.01, precision=2))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("yyyy-MM-dd", "2026-03-04"),
        ("d.M.yy h:m:s", "4.3.26 5:6:7"),
        ("hhmmss", "050607"),
        ("Q", "Q"),
    ],
)
def test_dates(pattern: str, text: str) -> None:
    assert format_date(pattern, datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)) == text


def test_file_name_patterns() -> None:
    def find(node: str, widget: str) -> str | None:
        return {("A", "b"): "x/y:z"}.get((node, widget))

    assert replace_patterns("%A.b% %C.d% %width% 100%", find, None) == "x_y_z %C.d% %width% 100%"


def test_comments_are_stripped_unless_they_do_not_end() -> None:
    assert dynamic_prompt("a/* b */c // d\ne", first_choice) == "ac \ne"
    assert dynamic_prompt("a/* b // c\nd", first_choice) == "a/* b \nd"


@given(st.text(alphabet="{}|\\/*ab\n", max_size=60), st.integers())
def test_dynamic_prompts_never_raise(text: str, chosen: int) -> None:
    assert len(dynamic_prompt(text, lambda _: chosen)) <= len(text)


def test_hostile_prompts_take_no_time() -> None:
    for text in ("{" * 100_000, "{a|" * 60_000, "/*" * 100_000, "//\n" * 60_000, "\\" * 199_999):
        assert len(dynamic_prompt(text, first_choice)) <= len(text)
    assert dynamic_prompt("{a|b}" * 100_000, first_choice) == "{a|b}" * 100_000, "too long to touch"
