"""Jobs of the typed door: their story live and late, outputs, cancellation, lists; across a restart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.server_process import picture as painted
from tests.gateway.typed_door import Door, Event, form, inverting, painting, png, typed_door
from tests.gateway.v2_door import unused_port

MISSING = "0f0f0f0f-0000-4000-8000-000000000000"


def slow(seconds: float = 1.5) -> dict[str, Any]:
    return {
        "1": {
            "class_type": "TestingSleep",
            "inputs": {"seconds": seconds, "steps": 5, "previews": True, "tag": ""},
            "_meta": {"title": "Thinking"},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "slow"}},
    }


def failing() -> dict[str, Any]:
    return {
        "1": {
            "class_type": "TestingFail",
            "inputs": {"message": "no luck"},
            "_meta": {"title": "The culprit"},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }


SECONDS = {
    "comfyserve_interface": 1,
    "inputs": [{"name": "seconds", "type": "number", "sets": [{"node": "1", "input": "seconds"}]}],
    "outputs": [],
}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with typed_door(tmp_path_factory.mktemp("jobs") / "home", unused_port()) as door:
        door.publish("paint", painting())
        door.publish("slow", slow(), interface=SECONDS)
        door.publish("fail", failing())
        yield door


def recorded(events: list[Event]) -> list[tuple[str | None, str]]:
    """What has an id, and its name."""
    return [(event.id, event.name) for event in events if event.id is not None]


def test_the_story_is_told_live_and_the_same_to_whoever_comes_late(door: Door) -> None:
    job = door.run("slow", {}, Prefer="wait=0")
    live = door.events(job["id"])
    assert live[0].name == "job"
    assert live[0].data["state"] in {"queued", "running"}
    stages = [event.data["stage"] for event in live if event.name == "stage"]
    assert stages[-2:] == ["running", "saving"]
    assert "loading" in stages
    names = {event.name for event in live}
    assert {"node", "progress", "preview", "output", "end"} <= names
    nodes = [event.data for event in live if event.name == "node"]
    assert (nodes[0]["title"], nodes[0]["number"], nodes[0]["total"]) == ("Thinking", 1, 2)
    progress = [event.data for event in live if event.name == "progress"]
    assert progress[-1]["steps"] == 5 or progress[-1]["nodes_done"] == 2
    assert [event.data["value"] for event in live if event.name == "progress"] == sorted(
        event["value"] for event in progress
    )
    late = door.events(job["id"])
    waits = {"queued", "placing", "starting"}
    told = [e for e in late if not (e.name == "stage" and e.data["stage"] in waits)]
    assert recorded(told) == recorded(live)
    assert recorded(late)[-1] == ("end", "end")
    assert next(e.data["stage"] for e in late if e.name == "stage") == "queued"


def test_a_reader_that_comes_back_hears_the_rest_and_one_with_a_stale_id_all(door: Door) -> None:
    job = door.run("paint", {}, Prefer="wait=30")
    whole = door.events(job["id"])
    ids = [id_ for id_, _ in recorded(whole)]
    rest = door.events(job["id"], {"Last-Event-ID": ids[1] or ""})
    assert [id_ for id_, _ in recorded(rest)] == ids[2:]
    assert rest[0].name != "job"
    for stale in ("12345-1", "nonsense", "", f"{'9' * 40}-1", "1-²"):
        told = door.events(job["id"], {"Last-Event-ID": stale.encode().decode("latin-1")})
        assert [id_ for id_, _ in recorded(told)] == ids, stale
    over = door.call("GET", f"/jobs/{job['id']}/events", None, {"Last-Event-ID": "end"})
    assert (over.status, over.body) == (204, b"")


def test_a_waiting_job_tells_its_place_and_when_it_will_be_done(door: Door) -> None:
    first = door.run("slow", {"seconds": 1.0}, Prefer="wait=30")
    assert first["state"] == "succeeded"
    running = door.run("slow", {"seconds": 2.0}, Prefer="wait=0")
    door.running(running["id"])
    jobs = [door.run("slow", {"seconds": 0.1}, Prefer="wait=0") for _ in range(2)]
    assert [job["position"] for job in jobs] == [1, 2]
    assert jobs[0]["eta_s"] > 0
    assert jobs[1]["eta_s"] > jobs[0]["eta_s"]
    shown = door.job(running["id"])
    assert shown["stage"] in {"loading", "running", "saving"}
    assert shown["eta_s"] is not None
    canceled = door.call("POST", f"/jobs/{jobs[1]['id']}/cancel")
    assert canceled.json["state"] == "canceled"
    assert door.call("POST", f"/jobs/{jobs[1]['id']}/cancel").json["state"] == "canceled"
    told = door.events(jobs[1]["id"])
    assert [event.name for event in told] == ["job", "stage", "end"]
    door.call("POST", f"/jobs/{running['id']}/cancel")
    assert door.ended(running["id"])["state"] == "canceled"
    assert door.ended(jobs[0]["id"])["state"] == "succeeded"


def test_a_failure_names_the_node_as_its_author_does(door: Door) -> None:
    answer = door.call("POST", "/run/fail", {}, {"Prefer": "wait=30"})
    assert answer.status == 200
    error = answer.json["error"]
    assert answer.json["state"] == "failed"
    assert error["node"]["title"] == "The culprit"
    assert "no luck" in error["message"]
    picture = door.call("POST", "/run/fail", {}, {"Accept": "image/*"})
    assert picture.refusal == (502, "job_failed")
    assert "'The culprit'" in picture.error["message"]


def test_what_a_node_says_in_words_is_told_too(door: Door) -> None:
    workflow = {
        "1": {
            "class_type": "TestingText",
            "inputs": {"text": "a cat"},
            "_meta": {"title": "Caption"},
        }
    }
    door.publish("caption", workflow)
    job = door.run("caption", {}, Prefer="wait=30")
    (texts,) = job["texts"].values()
    assert (job["outputs"], texts) == ([], ["a cat"])


def test_an_output_comes_whole_in_part_or_once_it_is_made(door: Door) -> None:
    job = door.run("slow", {"seconds": 0.3}, Prefer="wait=0")
    missing = door.call("GET", f"/jobs/{job['id']}/outputs/0")
    assert missing.refusal == (404, "output_not_found") or missing.status == 200
    whole = door.call("GET", f"/jobs/{job['id']}/outputs/0?wait=30")
    assert (whole.status, whole.headers["content-type"]) == (200, "image/png")
    part = door.call("GET", f"/jobs/{job['id']}/outputs/0", None, {"Range": "bytes=1-3"})
    assert (part.status, part.body) == (206, b"PNG")
    for index in ("1", "-1", "x", "9" * 30):
        answer = door.call("GET", f"/jobs/{job['id']}/outputs/{index}")
        assert answer.refusal == (404, "output_not_found")
    assert door.call("GET", f"/jobs/{job['id']}/outputs/0?wait=x").refusal[0] == 422


def test_lists_are_filtered_and_paged(door: Door) -> None:
    ids = [
        door.call("POST", f"/run/paint?label=n={n % 2}", {}, {"Prefer": "wait=30"}).json["id"]
        for n in range(4)
    ]
    listed = door.call("GET", "/jobs?endpoint=paint&label=n=1&state=succeeded").json
    assert [row["id"] for row in listed["jobs"]] == [ids[3], ids[1]]
    assert listed["jobs"][0]["url"] == f"/jobs/{ids[3]}"
    page = door.call("GET", "/jobs?endpoint=paint&limit=2").json
    rest = door.call("GET", f"/jobs?endpoint=paint&limit=2&cursor={page['next_cursor']}").json
    assert [row["id"] for row in (*page["jobs"], *rest["jobs"])] == ids[::-1]
    native = door.server.post("/prompt", {"prompt": painted(1)}).json["prompt_id"]
    assert door.ended(native)["endpoint"] is None
    assert door.call("GET", "/jobs").json["jobs"][0]["id"] == native
    for query in ("state=done", "limit=0", "cursor=zz", "labels=x", "label=x"):
        assert door.call("GET", f"/jobs?{query}").status in {400, 422}, query


def test_unknown_jobs_are_not_found(door: Door) -> None:
    for id_ in (MISSING, "x", "%20", MISSING.upper()):
        assert door.call("GET", f"/jobs/{id_}").refusal == (404, "job_not_found")
        assert door.call("GET", f"/jobs/{id_}/events").refusal == (404, "job_not_found")


@pytest.mark.timeout(180)
def test_a_story_outlives_the_server(home: Path, free_port: int) -> None:
    with typed_door(home, free_port) as door:
        door.publish("paint", painting())
        job = door.run("paint", {}, Prefer="wait=60")
        before = door.events(job["id"])
        door.server.kill()
        door.server.start()
        after = door.events(job["id"])
        assert recorded(after) == recorded(before)
        outputs = [event.data["filename"] for event in after if event.name == "output"]
        assert outputs == [job["outputs"][0]["filename"]]
        assert door.call("GET", "/run/paint").json["version"] == 1


def test_an_endpoint_that_no_longer_fits_says_so_and_takes_no_call(door: Door) -> None:
    body, headers = form({"type": "input"}, {"image": ("base.png", png((1, 2, 3)))})
    assert door.call("POST", "/upload/image", body, headers).status == 200
    workflow = inverting()
    workflow["1"]["inputs"]["image"] = "base.png"
    fixed = {"comfyserve_interface": 1, "inputs": [], "outputs": []}
    door.publish("fixed", workflow, interface=fixed)
    (file,) = (door.server.home / "deployments").glob("*/input/base.png")
    file.unlink()
    answer = door.call("POST", "/run/fixed", {})
    assert answer.refusal == (409, "endpoint_outdated")
    assert answer.error["details"]["problems"][0]["node_id"] == "1"
    assert door.call("GET", "/api/v1/endpoints/fixed").json["problems"]
    assert door.call("GET", "/jobs?endpoint=fixed").json["jobs"] == []
