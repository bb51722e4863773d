"""The queue and the history behind it."""

import threading
from typing import Any

import pytest

from comfyserve.engine.history import Entry, History, Status
from comfyserve.engine.queue import PromptQueue, QueueItem


def item(number: float, prompt_id: str) -> QueueItem:
    return QueueItem(number, prompt_id, {}, {"client_id": "me"}, ("1",), {"api_key_comfy_org": "s"})


def entry(prompt_id: str) -> Entry:
    return Entry(prompt_id, [], {}, Status(is_completed=True, messages=()), {})


@pytest.fixture
def queue() -> PromptQueue:
    return PromptQueue(History(), lambda: None)


def taken(queue: PromptQueue) -> str:
    found = queue.take()
    assert found is not None
    queue.finish(Status(is_completed=True, messages=()), {}, {})
    return found.prompt_id


def test_lower_numbers_first_then_ids(queue: PromptQueue) -> None:
    for number, prompt_id in ((2, "c"), (1, "b"), (-1, "z"), (1, "a"), (1.5, "d")):
        queue.put(item(number, prompt_id))
    assert [taken(queue) for _ in range(5)] == ["z", "a", "b", "d", "c"]


def test_two_prompts_of_one_id_both_run(queue: PromptQueue) -> None:
    queue.put(item(1, "same"))
    queue.put(item(1, "same"))
    assert [taken(queue), taken(queue)] == ["same", "same"]


def test_every_change_is_told() -> None:
    told: list[int] = []
    line = PromptQueue(History(), lambda: told.append(line.remaining))
    line.put(item(1, "a"))
    line.put(item(2, "b"))
    line.take()
    line.delete("b")
    line.finish(Status(is_completed=True, messages=()), {}, {})
    assert told == [1, 2, 2, 1, 0]


def test_what_runs_can_be_interrupted_but_not_deleted(queue: PromptQueue) -> None:
    queue.put(item(1, "a"))
    assert not queue.interrupt("a")
    queue.take()
    assert not queue.delete("a")
    assert not queue.interrupt("b")
    asked = [queue.is_interrupted]
    assert queue.interrupt("a")
    asked.append(queue.is_interrupted)
    queue.finish(Status(is_completed=False, messages=()), {}, {})
    queue.put(item(1, "b"))
    queue.take()
    asked.append(queue.is_interrupted)
    assert asked == [False, True, False]


def test_secrets_are_not_shown(queue: PromptQueue) -> None:
    queue.put(item(1, "a"))
    running, waiting = queue.snapshot()
    assert not running
    assert waiting[0].to_wire() == [1, "a", {}, {"client_id": "me"}, ["1"]]


def test_a_waiting_worker_wakes_for_free(queue: PromptQueue) -> None:
    found: list[Any] = []
    worker = threading.Thread(target=lambda: found.append(queue.take()))
    worker.start()
    queue.ask_free()
    worker.join(5)
    assert found == [None]
    assert queue.take_free()
    assert not queue.take_free()


@pytest.mark.parametrize(
    ("max_items", "offset", "expected"),
    [
        (None, -1, "abcde"),
        (2, -1, "de"),
        (9, -1, "abcde"),
        (0, -1, ""),
        (2, 0, "ab"),
        (2, 4, "e"),
        (None, 3, "de"),
        (0, 0, "a"),
        (3, 9, ""),
    ],
)
def test_pages_of_history(max_items: int | None, offset: int, expected: str) -> None:
    history = History()
    for name in "abcde":
        history.add(entry(name))
    assert "".join(each.prompt_id for each in history.page(max_items, offset)) == expected


def test_the_oldest_entries_are_forgotten() -> None:
    history = History(limit=3)
    for name in "abcde":
        history.add(entry(name))
    assert [each.prompt_id for each in history.all()] == ["c", "d", "e"]
    history.delete("d")
    history.delete("nope")
    assert history.get("d") is None
    history.clear()
    assert history.all() == []
