"""Batches: all or nothing, counted, zipped while they are sent, canceled as one."""

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.server_process import wait_until
from tests.gateway.test_typed_jobs import SECONDS, slow
from tests.gateway.typed_door import Door, colour_of, inverting, painting, typed_door
from tests.gateway.v2_door import unused_port

COLOURS = {
    "comfyserve_interface": 1,
    "inputs": [
        {
            "name": name,
            "type": "integer",
            "min": 0,
            "max": most,
            "default": default,
            "sets": [{"node": "1", "input": name}],
        }
        for name, default, most in (("color", 0, 0xFFFFFF), ("width", 8, 64))
    ],
    "outputs": [],
}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with typed_door(tmp_path_factory.mktemp("batches") / "home", unused_port()) as door:
        door.publish("paint", painting(), interface=COLOURS)
        door.publish("invert", inverting())
        door.publish("slow", slow(), interface=SECONDS)
        yield door


def start(door: Door, body: Any, name: str = "paint", **headers: str) -> Any:
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    answer = door.call("POST", f"/run/{name}/batch?label=kind=batch", body, sent)
    assert answer.status in {200, 202}, answer.body
    assert answer.headers["location"] == answer.json["urls"]["self"]
    return answer.json


def done(door: Door, batch: Any) -> Any:
    path = batch["urls"]["self"]
    wait_until(lambda: door.call("GET", path).json["state"] == "done", 60, "the batch is done")
    return door.call("GET", path).json


def test_a_grid_runs_each_combination_and_its_zip_has_them_in_order(door: Door) -> None:
    batch = start(door, {"grid": {"color": [1, 2], "width": [8, 16]}})
    assert (batch["size"], batch["endpoint"], batch["labels"]) == (4, "paint", {"kind": "batch"})
    ended = done(door, batch)
    assert (ended["counts"]["succeeded"], ended["progress"]) == (4, 1.0)
    assert ended["finished_at"] is not None
    answer = door.call("GET", ended["urls"]["outputs"])
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert [name[:5] for name in names[:4]] == ["0000_", "0001_", "0002_", "0003_"]
        assert [colour_of(archive.read(name))[2] for name in names[:4]] == [1, 1, 2, 2]
        listed = json.loads(archive.read("jobs.json"))
    assert [each["state"] for each in listed] == ["succeeded"] * 4
    jobs = door.call("GET", ended["urls"]["jobs"]).json["jobs"]
    assert {job["batch"] for job in jobs} == {batch["id"]}
    assert len(jobs) == 4


def test_calls_share_what_is_common_and_files_too(door: Door) -> None:
    made = door.run("paint", {"color": 0xFFFFFF}, Prefer="wait=30")["outputs"][0]["asset_id"]
    batch = start(door, {"calls": [{"image": made}], "common": {}}, "invert")
    ended = done(door, batch)
    with zipfile.ZipFile(io.BytesIO(door.call("GET", ended["urls"]["outputs"]).body)) as archive:
        assert colour_of(archive.read(archive.namelist()[0])) == (0, 0, 0)


def test_nothing_is_accepted_if_anything_is_wrong(door: Door) -> None:
    before = door.call("GET", "/jobs").json["jobs"]
    calls = [{"color": 1}, {"color": -1}, {"colour": 2}, {}]
    answer = door.call("POST", "/run/paint/batch", {"calls": calls})
    assert answer.refusal == (422, "invalid_inputs")
    told = [(each["index"], each["input"]) for each in answer.error["details"]["problems"]]
    assert told == [(1, "color"), (2, "colour")]
    assert "call 1" in answer.error["message"]
    files = {"calls": [{"image": "absent.png"}, {"image": "nowhere.png"}]}
    answer = door.call("POST", "/run/invert/batch", files)
    assert [each["index"] for each in answer.error["details"]["problems"]] == [0, 1]
    assert door.call("GET", "/jobs").json["jobs"] == before


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({}, (422, "invalid_request")),
        ({"calls": [], "grid": {}}, (422, "invalid_request")),
        ({"calls": []}, (422, "invalid_request")),
        ({"calls": {}}, (422, "invalid_request")),
        ({"calls": [1]}, (422, "invalid_request")),
        ({"grid": {}}, (422, "invalid_request")),
        ({"grid": {"color": []}}, (422, "invalid_request")),
        ({"grid": {"color": 1}}, (422, "invalid_request")),
        ({"calls": [{}], "common": []}, (422, "invalid_request")),
        ({"calls": [{}], "webhook_url": "x"}, (422, "invalid_request")),
        ({"calls": [{}] * 10_000}, (413, "batch_too_large")),
        (
            {"grid": {"color": list(range(100)), "width": list(range(100))}},
            (413, "batch_too_large"),
        ),
    ],
)
def test_bad_batches_say_what_is_wrong(door: Door, body: Any, refusal: tuple[int, str]) -> None:
    assert door.call("POST", "/run/paint/batch", body).refusal == refusal


def test_a_batch_that_the_queue_cannot_hold_is_refused_whole(door: Door) -> None:
    limits = {"max_queue": 3}
    door.server.deploy("small", limits=limits)
    small = Door(door.server, "/d/small")
    body = {"workflow": painting(), "interface": COLOURS}
    published = door.call("PUT", "/api/v1/endpoints/paint?deployment=small", body)
    assert published.status == 201
    answer = small.call("POST", "/run/paint/batch", {"grid": {"color": list(range(9))}})
    assert answer.refusal == (429, "queue_full")
    assert small.call("GET", "/batches").json["batches"] == []
    assert small.call("GET", "/jobs").json["jobs"] == []
    assert door.server.request("DELETE", "/api/v1/deployments/small").status == 204


def test_a_key_replays_a_batch(door: Door) -> None:
    body = {"grid": {"color": [7, 8]}}
    first = start(door, body, Idempotency_Key="once")
    assert start(door, body, Idempotency_Key="once")["id"] == first["id"]
    other = door.call("POST", "/run/paint/batch", {"calls": [{}]}, {"Idempotency-Key": "once"})
    assert other.refusal == (409, "idempotency_conflict")


def test_a_batch_is_canceled_as_one_and_what_it_made_can_be_taken(door: Door) -> None:
    batch = start(door, {"grid": {"seconds": [0.05, 20.0, 20.0]}}, "slow")
    path = batch["urls"]["self"]
    wait_until(lambda: door.call("GET", path).json["counts"]["succeeded"] == 1, 30, "one has ended")
    assert door.call("GET", f"{path}/outputs.zip").refusal == (409, "batch_not_finished")
    part = door.call("GET", f"{path}/outputs.zip?partial=true")
    with zipfile.ZipFile(io.BytesIO(part.body)) as archive:
        assert len(archive.namelist()) == 2
    assert door.call("POST", f"{path}/cancel").status == 200
    ended = done(door, batch)
    assert (ended["counts"]["succeeded"], ended["counts"]["canceled"]) == (1, 2)


def test_batches_are_listed_and_unknown_ones_not_found(door: Door) -> None:
    ids = [start(door, {"calls": [{"color": n}]})["id"] for n in range(3)]
    page = door.call("GET", "/batches?endpoint=paint&limit=2").json
    assert [each["id"] for each in page["batches"]] == ids[:0:-1]
    rest = door.call("GET", f"/batches?endpoint=paint&limit=2&cursor={page['next_cursor']}").json
    assert rest["batches"][0]["id"] == ids[0]
    for part in ("", "/outputs.zip"):
        assert door.call("GET", f"/batches/bt_nope{part}").refusal == (404, "batch_not_found")
    assert door.call("GET", "/batches?state=x").refusal == (422, "invalid_request")
