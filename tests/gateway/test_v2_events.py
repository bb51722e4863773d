"""The event stream of Comfy API v2: snapshots, all outputs before the end, early and late readers."""

import base64
import http.client
import io
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from tests.e2e.server_process import picture, sleeping, wait_until
from tests.gateway.v2_door import Door, read_events, unused_port, v2_door


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    home = tmp_path_factory.mktemp("v2") / "home"
    with v2_door(home, unused_port(), scaling={"idle_timeout_s": 30}) as door:
        yield door


def names(events: list[tuple[str, Any]]) -> list[str]:
    return [name for name, _ in events]


def statuses(events: list[tuple[str, Any]]) -> list[str]:
    return [data["status"] for name, data in events if name == "status"]


def outputs(events: list[tuple[str, Any]]) -> list[Any]:
    return [data for name, data in events if name == "output"]


def previewing(seconds: float) -> dict[str, Any]:
    prompt = sleeping(seconds, f"t{time.time_ns()}")
    prompt["1"]["inputs"]["previews"] = True
    return prompt


def test_the_story_is_told_from_the_queue_to_the_end(door: Door) -> None:
    job = door.submit(previewing(1.5))
    events = door.events(job["id"])
    told = statuses(events)
    assert told[-1] == "succeeded"
    assert told == sorted(told, key=["queued", "running", "succeeded"].index)
    assert names(events)[0] == "status"
    assert events[-1] == ("status", {"status": "succeeded"})
    assert [output["id"] for output in outputs(events)] == [
        output["id"] for output in door.job(job["id"])["outputs"]
    ]
    values = [data["value"] for name, data in events if name == "progress"]
    assert values == sorted(values)
    assert len(values) >= 2
    preview = next(data for name, data in events if name == "preview")
    assert preview["node_id"] == "1"
    assert Image.open(io.BytesIO(base64.b64decode(preview["data_base64"]))).size > (0, 0)


def test_progress_is_told_at_most_twice_a_second(door: Door) -> None:
    prompt = sleeping(2.0, f"t{time.time_ns()}")
    prompt["1"]["inputs"]["steps"] = 100
    job = door.submit(prompt)
    events = door.events(job["id"])
    assert 2 <= names(events).count("progress") <= 8


@pytest.mark.parametrize("made", ["succeeded", "failed", "canceled"])
def test_a_late_reader_gets_the_outputs_and_the_end(door: Door, made: str) -> None:
    if made == "succeeded":
        job = door.ended(door.submit(picture(4))["id"])
    elif made == "failed":
        saved = picture(4)
        saved["3"] = {"class_type": "TestingFail", "inputs": {"anything": ["1", 0], "message": "x"}}
        saved["4"] = {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}
        job = door.ended(door.submit(saved)["id"])
    else:
        job = door.submit(sleeping(20))
        door.call("POST", f"/jobs/{job['id']}/cancel")
        job = door.ended(job["id"])
    events = door.events(job["id"])
    assert job["status"] == made
    assert names(events) == ["output"] * len(job["outputs"]) + ["status"]
    assert events[-1][1] == {"status": made}
    assert [output["hash"] for output in outputs(events)] == [
        output["hash"] for output in job["outputs"]
    ]


def test_a_job_in_the_queue_tells_how_it_moves_up(door: Door) -> None:
    first, second, third = (door.submit(sleeping(20, str(n))) for n in range(3))
    door.running(first["id"])
    connection = http.client.HTTPConnection("127.0.0.1", door.server.port, timeout=30)
    connection.request("GET", f"/api/v2/jobs/{third['id']}/events")
    answer = connection.getresponse()
    assert answer.readline() == b"event: status\n"
    assert b'"queue_position":2' in answer.readline()
    door.call("POST", f"/jobs/{second['id']}/cancel")
    rest: list[bytes] = []
    reader = threading.Thread(target=lambda: rest.append(answer.read()))
    reader.start()
    door.call("POST", f"/jobs/{first['id']}/cancel")
    door.running(third["id"])
    door.call("POST", f"/jobs/{third['id']}/cancel")
    reader.join(30)
    connection.close()
    told = [data for name, data in read_events(rest[0].lstrip(b"\n")) if name == "status"]
    assert told[-1] == {"status": "canceled"}
    assert {"status": "running"} in told


def test_readers_that_leave_are_forgotten(door: Door) -> None:
    job = door.submit(sleeping(3, f"t{time.time_ns()}"))
    for _ in range(20):
        connection = http.client.HTTPConnection("127.0.0.1", door.server.port, timeout=30)
        connection.request("GET", f"/api/v2/jobs/{job['id']}/events")
        assert connection.getresponse().status == 200
        connection.close()
    assert door.ended(job["id"])["status"] == "succeeded"


def test_a_stream_goes_on_when_its_replica_dies(door: Door) -> None:
    inputs = {"exit_code": 1, "by_signal": "SIGKILL", "once": "", "anything": ["1", 0]}
    crash = picture(6) | {"3": {"class_type": "TestingCrash", "inputs": inputs}}
    answer = door.call("POST", "/jobs", {"workflow": crash})
    assert answer.status == 201, answer.body
    events = door.events(answer.json["id"])
    assert events[-1] == ("status", {"status": "failed"})
    job = door.job(answer.json["id"])
    assert job["error"]["code"] == "replica_lost"
    wait_until(lambda: door.ended(door.submit(picture(8))["id"])["status"] == "succeeded", 30, "on")
