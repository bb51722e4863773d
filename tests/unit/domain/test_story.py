"""A job's story: bounded, in order, and told from where a reader left it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.domain.story import (
    MOST,
    Kind,
    Stage,
    Story,
    StoryTeller,
    event_id,
    parse_event_id,
)


def told() -> StoryTeller:
    teller = StoryTeller(began=1000)
    teller.enter(Stage.QUEUED, 1.0)
    teller.enter(Stage.LOADING, 2.0)
    teller.begin_node("1", 1, 2, 2.5)
    teller.begin_node("1", 1, 2, 2.6)
    teller.enter(Stage.LOADING, 2.7)
    teller.add_output("asset", 3.0)
    return teller


def test_what_does_not_change_anything_is_not_told_twice() -> None:
    entries = told().story.entries
    assert [(entry.number, entry.kind) for entry in entries] == [
        (1, Kind.STAGE),
        (2, Kind.STAGE),
        (3, Kind.NODE),
        (4, Kind.OUTPUT),
    ]
    assert told().stage is Stage.LOADING


def test_a_reader_goes_on_where_it_was_but_hears_another_attempt_whole() -> None:
    story = told().story
    assert story.after(None) == story.entries
    assert [entry.number for entry in story.after((1000, 2))] == [3, 4]
    assert story.after((1000, 4)) == []
    assert story.after((999, 4)) == story.entries


def test_stages_and_outputs_are_never_left_out() -> None:
    teller = told()
    for number in range(3 * MOST):
        teller.begin_node(str(number + 10), number, 1, 4.0)
        if number % 100 == 0:
            teller.add_output(str(number), 4.0)
    entries = teller.story.entries
    assert len(entries) == MOST
    assert sum(entry.kind is Kind.OUTPUT for entry in entries) == 31
    assert [entry.number for entry in entries] == sorted({entry.number for entry in entries})
    for number in range(2 * MOST):
        teller.add_output(str(number), 5.0)
    assert sum(entry.kind is Kind.OUTPUT for entry in teller.story.entries) == 31 + 2 * MOST


def test_ids_are_read_as_they_were_made() -> None:
    story = told().story
    assert [parse_event_id(event_id(story, entry)) for entry in story.entries] == [
        (1000, number) for number in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize("text", [None, "", "-", "1", "1-", "-1", "a-1", "1-²", "9" * 20 + "-1"])
def test_other_ids_are_nobodys(text: str | None) -> None:
    assert parse_event_id(text) is None


@given(st.text())
def test_any_id_can_be_looked_at(text: str) -> None:
    mark = parse_event_id(text)
    assert Story(1, ()).after(mark) == ()
