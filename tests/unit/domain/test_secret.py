"""Secrets: what they may be called, and that no split of a log lets one through."""

import json
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.secret import (
    LARGEST_VALUE_BYTES,
    MASKED,
    Mask,
    check_secret_name,
    check_secret_value,
)

KEY = "hf_Zq9-x/very+secret"


@pytest.mark.parametrize("name", ["HF_TOKEN", "_a", "a1"])
def test_a_name_is_that_of_a_variable(name: str) -> None:
    assert check_secret_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "1A", "A-B", "A B", "A=B", "É", "A\n", "../x", "A" * 129),
        *("PATH", "HOME", "LD_PRELOAD", "COMFYSERVE_TOKEN", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_name_that_no_variable_has_or_that_is_taken_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_secret_name(name)
    assert refused.value.code == "invalid_name"


def test_a_value_may_have_lines_and_any_letters() -> None:
    assert check_secret_value("-----BEGIN-----\nü\n") == "-----BEGIN-----\nü\n"


@pytest.mark.parametrize(
    "value", ["", " \n", "long\n" * 101, "a\0b", "\ud800", "x" * (LARGEST_VALUE_BYTES + 1)]
)
def test_a_value_that_no_environment_holds_is_refused_without_being_repeated(value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_secret_value(value)
    assert not value or value not in refused.value.message


def test_a_value_is_masked_however_it_is_spelled() -> None:
    value = 'pass"word/ü\\x'
    mask = Mask([value, "abc", f"-----BEGIN-----\n{'k' * 40}\nend"])
    for spelled in (value, quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1]):
        assert mask.text(f"key={spelled}; abc") == "key=***; abc"
    assert mask.text(f"line {'k' * 40}") == "line ***"
    assert mask.text("the end") == "the end", "what is too short to be secret stays readable"
    error = {"message": f"401 for {value}", "trace": [("abc", 1, None)], "abc": True}
    assert mask.document(error) == {
        "message": "401 for ***",
        "trace": [["abc", 1, None]],
        "abc": True,
    }
    assert Mask().document(error)["message"] == f"401 for {value}"
    assert not Mask()
    assert (Mask().longest, Mask(["abcd", "abcdef"]).longest) == (0, 6)
    assert Mask().apply(b"as it is") == b"as it is"


def test_the_end_of_a_value_at_the_cut_is_not_shown() -> None:
    mask = Mask([KEY])
    for cut in range(len(KEY) - 4):
        shown = mask.apply((KEY + " was used").encode()[cut:])
        assert shown in {b" was used", b"*** was used"}
    assert mask.apply(b"ret is short") == b"ret is short"


@given(
    values=st.lists(st.text("ab-", min_size=4, max_size=8), min_size=1, max_size=3),
    text=st.text("ab-\n", max_size=60),
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=60),
)
@example(values=["abbbb", "-ab-a"], text="-ab-a-ab", cuts=[4])
def test_a_stream_shows_no_value_wherever_it_is_cut(
    values: list[str], text: str, cuts: list[int]
) -> None:
    mask = Mask(values)
    data = "".join(f"{text}{value}" for value in values).encode()
    shown, held, position = b"", b"", 0
    for size in cuts * (len(data) // len(cuts) + 1):
        part, held = mask.split(held + data[position : position + size])
        shown, position = shown + part, position + size
    shown += mask.apply(held)
    for piece in shown.split(MASKED):
        assert not any(value.strip().encode() in piece for value in values)


def test_a_stream_without_values_passes_unchanged() -> None:
    mask = Mask([KEY])
    shown, held = mask.split(b"step 3 of 20 hf_Zq")
    assert (shown, held) == (b"step 3 of 20 ", b"hf_Zq")
    assert mask.split(held + b"x\n") == (b"hf_Zqx\n", b"")
