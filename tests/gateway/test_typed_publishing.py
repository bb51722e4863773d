"""Publishing over HTTP and by command: checked at once, versioned, refused with all reasons."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.gateway.typed_door import Door, inverting, painting, typed_door
from tests.gateway.v2_door import unused_port

API = "/api/v1/endpoints"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with typed_door(tmp_path_factory.mktemp("publish") / "home", unused_port()) as door:
        yield door


def command(door: Door, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "comfyserve.cli.main", *arguments, "--url", door.server.url],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_nothing_wakes_and_each_publish_is_a_version(door: Door) -> None:
    first = door.publish("paint", painting())
    assert (first["version"], first["deployment"], first["problems"]) == (1, "demo", [])
    assert first["url"] == f"{door.server.url}/d/demo/run/paint"
    assert [each["name"] for each in first["interface"]["inputs"]] == ["width", "height"]
    second = door.publish("paint", painting(), reuse=True)
    assert (second["version"], second["reuse"]) == (2, True)
    listed = door.call("GET", f"{API}/paint/versions").json["versions"]
    assert [(each["number"], each["current"]) for each in listed] == [(2, True), (1, False)]
    back = door.call("POST", f"{API}/paint/versions/1/use").json
    assert (back["version"], back["reuse"]) == (1, False)
    rows = door.call("GET", API).json["endpoints"]
    assert [(row["name"], row["version"]) for row in rows] == [("paint", 1)]
    assert door.server.replicas() == []


def test_what_cannot_run_is_refused_with_all_reasons_and_changes_nothing(door: Door) -> None:
    bad = painting()
    bad["1"]["inputs"]["width"] = -5
    bad["1"]["inputs"]["batch_size"] = 10**9
    bad["3"] = {"class_type": "NoSuchNode", "inputs": {}}
    refused = door.call("PUT", f"{API}/bad", {"workflow": bad})
    assert refused.refusal == (422, "workflow_refused")
    bad.pop("3")
    refused = door.call("PUT", f"{API}/bad", {"workflow": bad})
    assert {name for name, _ in refused.problems} == {"width", "batch_size"}
    assert door.call("GET", f"{API}/bad").refusal == (404, "endpoint_not_found")


@pytest.mark.parametrize(
    ("name", "body", "refusal"),
    [
        ("Bad_Name", {"workflow": painting()}, (400, "invalid_name")),
        ("x", {"workflow": []}, (400, "invalid_input")),
        ("x", {"workflow": painting(), "deploymnt": "demo"}, (400, "invalid_input")),
        ("x", b"{", (400, "invalid_input")),
        ("x", {}, (400, "invalid_input")),
        ("x", {"workflow": {}, "interface": {}}, (422, "workflow_refused")),
    ],
)
def test_bad_requests_say_what_is_wrong(
    door: Door, name: str, body: object, refusal: tuple[int, str]
) -> None:
    assert door.call("PUT", f"{API}/{name}", body).refusal == refusal


def test_unknown_deployments_versions_and_names_are_not_found(door: Door) -> None:
    door.publish("known", painting())
    body = {"workflow": painting()}
    assert door.call("PUT", f"{API}/x?deployment=no", body).refusal == (404, "deployment_not_found")
    assert door.call("GET", f"{API}/nope").refusal == (404, "endpoint_not_found")
    missing = door.call("POST", f"{API}/known/versions/7/use")
    assert missing.refusal == (404, "version_not_found")
    assert door.call("POST", f"{API}/known/versions/{10**12}/use").status == 400
    assert door.call("DELETE", f"{API}/known").status == 204
    assert door.call("DELETE", f"{API}/known").status == 404


def test_the_commands_publish_show_roll_back_and_delete(door: Door, tmp_path: Path) -> None:
    (tmp_path / "workflow.json").write_text(json.dumps(inverting()))
    published = command(door, "publish", "invert", "workflow.json", cwd=tmp_path)
    assert published.returncode == 0, published.stderr
    assert published.stdout == f"{door.server.url}/d/demo/run/invert\n"
    assert "(required)" in published.stderr
    shown = command(door, "endpoint", "show", "invert", "--json", cwd=tmp_path)
    (tmp_path / "interface.json").write_text(shown.stdout.replace('"image"', '"picture"', 1))
    edited = json.loads(shown.stdout)["interface"]
    edited["inputs"] = [{**each, "label": "Yours"} for each in edited["inputs"]]
    (tmp_path / "interface.json").write_text(json.dumps(edited))
    again = command(
        door, "publish", "invert", "workflow.json", "--interface", "interface.json", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert json.loads(again.stdout)["interface"]["inputs"][0]["label"] == "Yours"
    assert "invert" in command(door, "endpoint", "list", cwd=tmp_path).stdout
    back = command(door, "endpoint", "rollback", "invert", cwd=tmp_path)
    assert (back.returncode, back.stderr) == (0, "invert is at version 1\n")
    assert command(door, "endpoint", "rollback", "invert", cwd=tmp_path).returncode == 2
    assert "yes" in command(door, "endpoint", "versions", "invert", cwd=tmp_path).stdout
    assert command(door, "endpoint", "rm", "invert", "--yes", cwd=tmp_path).returncode == 0
    assert command(door, "endpoint", "show", "invert", cwd=tmp_path).returncode == 3


def test_a_refused_publish_shows_each_problem_on_stderr(door: Door, tmp_path: Path) -> None:
    bad = painting()
    bad["1"]["inputs"]["width"] = -5
    (tmp_path / "bad.json").write_text(json.dumps(bad))
    refused = command(door, "publish", "bad", "bad.json", cwd=tmp_path)
    assert refused.returncode == 4
    assert 'node 1 "Canvas": width' in refused.stderr
    (tmp_path / "no.json").write_text("[1, 2")
    assert command(door, "publish", "bad", "no.json", cwd=tmp_path).returncode == 2
    assert command(door, "publish", "bad", "absent.json", cwd=tmp_path).returncode == 3
