"""Queue and history as `/api/jobs` shows them."""

from typing import Any

import pytest

from comfyserve.engine.history import History, Status
from comfyserve.engine.jobs import JobQuery, JobStatus, find_job, list_jobs
from comfyserve.engine.queue import PromptQueue, QueueItem


def put(queue: PromptQueue, name: str, created: int, workflow: str | None = None) -> None:
    extra: dict[str, Any] = {"create_time": created}
    if workflow is not None:
        extra["extra_pnginfo"] = {"workflow": {"id": workflow}}
    queue.put(QueueItem(created, name, {"1": {}}, extra, ("1",)))


def run(queue: PromptQueue, last: str, outputs: dict[str, Any], *, start: int, end: int) -> None:
    queue.take()
    messages: list[tuple[str, dict[str, Any]]] = [
        ("execution_start", {"timestamp": start}),
        ("execution_cached", {"timestamp": start}),
        (last, {"timestamp": end, "node_id": "1"}),
    ]
    queue.finish(Status(last == "execution_success", messages), outputs, {})


@pytest.fixture
def queue() -> PromptQueue:
    queue = PromptQueue(History(), lambda: None)
    put(queue, "good", 1, "w")
    outputs = {
        "5": {
            "images": [{"filename": "t.png", "subfolder": "", "type": "temp"}],
            "animated": [True],
        },
        "6": {"text": ["x" * 2000], "parchments": [{"filename": "p.bin", "type": "output"}]},
        "7": {"gifs": [{"filename": "g.mp4", "type": "output", "format": "video/mp4"}]},
    }
    run(queue, "execution_success", outputs, start=100, end=140)
    put(queue, "bad", 2)
    run(queue, "execution_error", {}, start=200, end=210)
    put(queue, "stopped", 3)
    run(queue, "execution_interrupted", {}, start=300, end=390)
    put(queue, "running", 4, "w")
    queue.take()
    put(queue, "waiting", 5)
    return queue


def ids(queue: PromptQueue, query: JobQuery) -> list[str]:
    return [job["id"] for job in list_jobs(queue, query)["jobs"]]


def test_the_newest_first(queue: PromptQueue) -> None:
    body = list_jobs(queue, JobQuery())
    assert [(job["id"], job["status"]) for job in body["jobs"]] == [
        ("waiting", "pending"),
        ("running", "in_progress"),
        ("stopped", "cancelled"),
        ("bad", "failed"),
        ("good", "completed"),
    ]
    assert body["pagination"] == {"offset": 0, "limit": None, "total": 5, "has_more": False}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (JobQuery(statuses=frozenset({JobStatus.FAILED, JobStatus.PENDING})), ["waiting", "bad"]),
        (JobQuery(workflow_id="w"), ["running", "good"]),
        (JobQuery(is_descending=False, limit=2), ["good", "bad"]),
        (JobQuery(limit=2, offset=4), ["good"]),
        (JobQuery(by_duration=True, limit=2), ["stopped", "good"]),
    ],
)
def test_filters_order_and_pages(queue: PromptQueue, query: JobQuery, expected: list[str]) -> None:
    assert ids(queue, query) == expected


def test_pages_say_whether_there_is_more(queue: PromptQueue) -> None:
    assert list_jobs(queue, JobQuery(limit=2, offset=2))["pagination"]["has_more"]
    assert not list_jobs(queue, JobQuery(limit=2, offset=3))["pagination"]["has_more"]


def test_a_finished_job_shows_its_best_output(queue: PromptQueue) -> None:
    job = find_job(queue, "good")
    assert job is not None
    assert (job["execution_start_time"], job["execution_end_time"]) == (100, 140)
    assert (job["outputs_count"], job["previewable_outputs_count"]) == (4, 3)
    assert job["preview_output"] == {
        "filename": "g.mp4",
        "type": "output",
        "format": "video/mp4",
        "nodeId": "7",
        "mediaType": "gifs",
    }
    assert job["outputs"].keys() == {"5", "6", "7"}
    assert job["workflow"]["prompt"] == {"1": {}}


def test_a_failed_job_shows_its_error(queue: PromptQueue) -> None:
    job = find_job(queue, "bad")
    assert job is not None
    assert job["execution_error"]["node_id"] == "1"
    assert "preview_output" not in job


def test_jobs_that_are_not_over(queue: PromptQueue) -> None:
    running, waiting = find_job(queue, "running"), find_job(queue, "waiting")
    assert running is not None
    assert waiting is not None
    assert (running["status"], waiting["status"]) == ("in_progress", "pending")
    assert "outputs" not in running
    assert find_job(queue, "nowhere") is None
