"""Results that are given again: only for the same request of the same caller, and never where it could differ."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.gateway.test_typed_batches import COLOURS
from tests.gateway.typed_door import Door, colour_of, form, inverting, painting, png, typed_door
from tests.gateway.v2_door import unused_port

WAIT = {"Prefer": "wait=60"}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with typed_door(tmp_path_factory.mktemp("reuse") / "home", unused_port()) as door:
        door.publish("paint", painting(), interface=COLOURS)
        door.publish("always", painting(), interface=COLOURS, reuse=True)
        door.publish("invert", inverting())
        yield door


def run(door: Door, name: str, inputs: Any, query: str = "?reuse=true") -> Any:
    answer = door.call("POST", f"/run/{name}{query}", inputs, WAIT)
    assert answer.status == 200, answer.body
    assert answer.json["state"] == "succeeded"
    return answer.json


def test_the_same_call_gets_the_stored_outputs_at_once_for_nothing(door: Door) -> None:
    first = run(door, "paint", {"color": 0x111213})
    assert first["reused_from"] is None
    again = run(door, "paint", {"color": 0x111213})
    assert again["id"] != first["id"]
    assert again["reused_from"] == first["id"]
    assert (again["receipt"]["total_ms"], again["receipt"]["billed_ms"]) == (0, 0)
    assert again["receipt"]["cost"] == 0
    (old,), (new,) = first["outputs"], again["outputs"]
    assert (new["hash"], new["name"]) == (old["hash"], old["name"])
    assert new["asset_id"] != old["asset_id"]
    assert colour_of(door.fetch(new["url"]).body) == (0x11, 0x12, 0x13)
    entry = door.server.get(f"/history/{again['id']}").json[again["id"]]
    assert entry["status"]["status_str"] == "success"
    assert entry["outputs"]["2"]["images"][0]["filename"] == new["filename"]
    events = [event.name for event in door.events(again["id"])]
    assert events[-2:] == ["output", "end"]
    third = run(door, "paint", {"color": 0x111213})
    assert third["reused_from"] == first["id"]


def test_it_has_to_be_asked_for_or_published_so(door: Door) -> None:
    run(door, "paint", {"color": 5})
    assert run(door, "paint", {"color": 5}, "")["reused_from"] is None
    assert run(door, "paint", {"color": 5}, "?reuse=false")["reused_from"] is None
    run(door, "always", {"color": 6}, "")
    assert run(door, "always", {"color": 6}, "")["reused_from"] is not None
    assert run(door, "always", {"color": 6}, "?reuse=false")["reused_from"] is None


def test_files_count_by_their_content(door: Door) -> None:
    body, headers = form({}, {"image": ("a.png", png((7, 7, 7)))})
    first = door.call("POST", "/run/invert?reuse=true", body, {**headers, **WAIT}).json
    body, headers = form({}, {"image": ("another-name.png", png((7, 7, 7)))})
    again = door.call("POST", "/run/invert?reuse=true", body, {**headers, **WAIT}).json
    assert again["reused_from"] == first["id"]
    body, headers = form({}, {"image": ("a.png", png((7, 7, 8)))})
    other = door.call("POST", "/run/invert?reuse=true", body, {**headers, **WAIT}).json
    assert other["reused_from"] is None


def test_a_file_that_may_change_under_its_name_always_runs(door: Door) -> None:
    body, headers = form({"type": "input"}, {"image": ("mine.png", png((1, 2, 3)))})
    assert door.call("POST", "/upload/image", body, headers).status == 200
    run(door, "invert", {"image": "mine.png"})
    assert run(door, "invert", {"image": "mine.png"})["reused_from"] is None


def test_another_token_another_revision_and_deleted_outputs_run_again(door: Door) -> None:
    first = run(door, "paint", {"color": 77})
    made = door.server.post("/api/v1/tokens", {"name": "other", "scopes": ["run"]}).json
    other = Door(door.server, token=made["secret"])
    assert run(other, "paint", {"color": 77})["reused_from"] is None
    assert run(other, "paint", {"color": 77})["reused_from"] is not None
    asset_id = first["outputs"][0]["asset_id"]
    assert door.server.request("DELETE", f"/api/v2/assets/{asset_id}").status == 204
    second = run(door, "paint", {"color": 77})
    assert second["reused_from"] is None
    door.server.deploy("demo", scaling={"idle_timeout_s": 31})
    assert run(door, "paint", {"color": 77})["reused_from"] is None
