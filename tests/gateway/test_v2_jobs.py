"""Jobs of Comfy API v2: accepted asleep, followed to the end, found by label, run once per key."""

import io
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from PIL import Image
from tests.e2e.server_process import picture, sleeping, wait_until
from tests.gateway.v2_door import Door, unused_port, v2_door

MISSING = "0f0f0f0f-0000-4000-8000-000000000000"
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    home = tmp_path_factory.mktemp("v2") / "home"
    with v2_door(home, unused_port(), scaling={"idle_timeout_s": 30}) as door:
        yield door


def png(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def loading(image: Any) -> dict[str, Any]:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "v2"}},
    }


def reference(asset_id: str) -> dict[str, Any]:
    return {"__type": "core/ASSET", "info": {"id": asset_id}}


def colour_of(door: Door, job: Any) -> Any:
    (output,) = job["outputs"]
    image = Image.open(io.BytesIO(door.fetch(output["url"]).body))
    return image.convert("RGB").getpixel((0, 0))


def test_a_job_is_accepted_while_everything_sleeps(home: Path, free_port: int) -> None:
    with v2_door(home, free_port) as door:
        assert door.server.replicas() == []
        answer = door.call("POST", "/jobs", {"workflow": picture(5), "metadata": {"env": "test"}})
        assert answer.status == 201
        job = answer.json
        assert answer.headers["location"] == job["urls"]["self"] == f"/api/v2/jobs/{job['id']}"
        assert job["status"] == "queued"
        assert job["queue_position"] == 1
        assert job["outputs"] == []
        assert job["error"] is job["started_at"] is job["completed_at"] is job["progress"] is None
        assert job["metadata"] == {"env": "test"}
        assert RFC_3339.fullmatch(job["created_at"])
        kept = datetime.fromisoformat(job["expires_at"]).timestamp() - time.time()
        assert 29 * 86400 < kept < 31 * 86400
        ended = door.ended(job["id"])
        assert ended["status"] == "succeeded"
        assert ended["queue_position"] is None
        assert set(ended["metrics"]) == {"queue_ms", "execution_ms"}
        assert all(value >= 0 for value in ended["metrics"].values())


def test_an_output_is_right_in_size_hash_and_type(door: Door) -> None:
    job = door.ended(door.submit(picture(0x102030))["id"])
    (output,) = job["outputs"]
    body = door.fetch(output["url"]).body
    assert output["size_bytes"] == len(body)
    assert output["hash"] == f"blake3:{blake3(body).hexdigest()}"
    assert output["node_id"] == "2"
    assert (output["type"], output["content_type"]) == ("image", "image/png")
    assert output["job_id"] == job["id"]
    assert colour_of(door, job) == (0x10, 0x20, 0x30)
    asset = door.call("GET", f"/assets/{output['id']}").json
    assert (asset["job_id"], asset["hash"]) == (job["id"], output["hash"])


def test_a_cached_run_has_outputs_of_its_own(door: Door) -> None:
    first = door.ended(door.submit(picture(77))["id"])
    second = door.ended(door.submit(picture(77))["id"])
    assert [len(job["outputs"]) for job in (first, second)] == [1, 1]
    assert first["outputs"][0]["id"] != second["outputs"][0]["id"]
    assert first["outputs"][0]["hash"] == second["outputs"][0]["hash"]
    assert second["outputs"][0]["job_id"] == second["id"]


def test_jobs_of_one_door_are_seen_at_the_others(door: Door) -> None:
    prompt_id = door.server.post("/prompt", {"prompt": picture(9)}).json["prompt_id"]
    assert door.ended(prompt_id)["status"] == "succeeded"
    job = door.ended(door.submit(picture(10))["id"])
    assert door.server.get(f"/history/{job['id']}").json[job["id"]]["status"]["completed"] is True
    assert door.server.get(f"/api/v1/jobs/{job['id']}").json["state"] == "succeeded"


def test_an_uploaded_asset_is_an_input_by_id_and_by_path(door: Door) -> None:
    red = door.upload(png((200, 0, 0)), "red/photo.png").json
    green = door.upload(png((0, 200, 0)), "green/photo.png").json
    blue = door.upload(png((0, 0, 200)), "blue.png").json
    jobs = [
        door.submit(loading(reference(red["id"]))),
        door.submit(loading(reference(green["id"]))),
        door.submit(loading("blue.png")),
        door.submit(loading("green/photo.png")),
    ]
    door.call("DELETE", f"/assets/{blue['id']}")
    colours = [colour_of(door, door.ended(job["id"])) for job in jobs]
    assert colours == [(200, 0, 0), (0, 200, 0), (0, 0, 200), (0, 200, 0)]
    gone = door.call("POST", "/jobs", {"workflow": loading("blue.png")})
    assert gone.refusal == (422, "invalid_workflow")


def test_the_newest_upload_under_a_path_counts(door: Door) -> None:
    door.upload(png((1, 2, 3)), "same.png")
    door.upload(png((4, 5, 6)), "same.png")
    assert colour_of(door, door.ended(door.submit(loading("same.png"))["id"])) == (4, 5, 6)


def test_an_output_is_an_input_of_the_next_job(door: Door) -> None:
    first = door.ended(door.submit(picture(0x0A0B0C))["id"])
    second = door.ended(door.submit(loading(reference(first["outputs"][0]["id"])))["id"])
    assert colour_of(door, second) == (0x0A, 0x0B, 0x0C)


@pytest.mark.parametrize(
    "image",
    [
        reference(MISSING),
        reference("../../etc/passwd"),
        reference(""),
        {"__type": "core/ASSET"},
        {"__type": "core/ASSET", "info": []},
        {"__type": "core/ASSET", "info": {"id": 5}},
        [reference(MISSING)],
    ],
)
def test_a_reference_to_nothing_is_refused(door: Door, image: Any) -> None:
    answer = door.call("POST", "/jobs", {"workflow": loading(image)})
    assert answer.refusal == (422, "missing_asset")


def test_the_workflow_is_what_ran_and_holds_no_key(door: Door) -> None:
    sent = picture(3)
    job = door.submit(sent, extra_data={"api_key_comfy_org": "comfyui-s3cret"})
    answer = door.call("GET", f"/jobs/{job['id']}/workflow")
    assert answer.json["format"] == "api"
    assert answer.json["workflow"] == sent
    door.ended(job["id"])
    for path in (f"/jobs/{job['id']}", f"/jobs/{job['id']}/workflow", f"/jobs/{job['id']}/logs"):
        assert b"s3cret" not in door.call("GET", path).body
    home = door.server.home
    stored = [path.read_bytes() for path in home.glob("comfyserve.db*")]
    assert not any(b"s3cret" in data for data in stored)


def test_labels_find_jobs_in_pages(door: Door) -> None:
    run = f"r{time.time_ns()}"
    ids = [
        door.submit(picture(number), metadata={"run": run, "odd": str(number % 2)})["id"]
        for number in range(5)
    ]
    found, cursor, pages = [], "", 0
    while pages < 10:
        page = door.call("GET", f"/jobs?limit=2&metadata[run]={run}{cursor}").json
        found += [item["id"] for item in page["jobs"]]
        pages += 1
        if "next_cursor" not in page:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == ids[::-1]
    assert pages == 3
    odd = door.call("GET", f"/jobs?metadata%5Brun%5D={run}&metadata[odd]=1").json["jobs"]
    assert [item["id"] for item in odd] == [ids[3], ids[1]]
    assert odd[0]["metadata"] == {"run": run, "odd": "1"}
    assert set(odd[0]) >= {"id", "status", "create_time", "update_time", "deployment_id"}


@pytest.mark.parametrize(
    ("query", "refusal"),
    [
        ("limit=0", (400, "invalid_request")),
        ("limit=101", (400, "invalid_request")),
        ("limit=-1", (400, "invalid_request")),
        ("limit=x", (400, "invalid_request")),
        ("limit=%D9%A3", (400, "invalid_request")),
        ("cursor=zz", (400, "invalid_cursor")),
        ("cursor=", (400, "invalid_cursor")),
        ("cursor=ffffffffffffffffffff", (400, "invalid_cursor")),
        ("metadata=x", (400, "invalid_metadata_filter")),
        ("metadata[a", (400, "invalid_metadata_filter")),
        ("metadata[]=x", (400, "invalid_metadata_filter")),
        ("metadata[a]=1&metadata[a]=2", (400, "invalid_metadata_filter")),
        ("metadata[a]=&metadata[b]=&metadata[c]=&metadata[d]=", (400, "invalid_metadata_filter")),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(
    door: Door, query: str, refusal: tuple[int, str]
) -> None:
    assert door.call("GET", f"/jobs?{query}").refusal == refusal


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ([], "object"),
        ({f"k{number}": "v" for number in range(17)}, "17 pairs"),
        ({"": "v"}, "metadata key ''"),
        ({"a b": "v"}, "'a b'"),
        ({"k" * 41: "v"}, "'kkk"),
        ({"key": 5}, "'key'"),
        ({"key": None}, "'key'"),
        ({"key": "v" * 257}, "'key'"),
        ({"key": "é" * 129}, "'key'"),
        ({"key": "a\u202eb"}, "'key'"),
        ({"key": "a\nb"}, "'key'"),
    ],
)
def test_a_label_that_breaks_a_rule_is_refused(door: Door, metadata: Any, named: str) -> None:
    answer = door.call("POST", "/jobs", {"workflow": picture(1), "metadata": metadata})
    assert answer.refusal == (422, "metadata_invalid")
    assert named in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (b"", (400, "invalid_json")),
        (b"{", (400, "invalid_json")),
        (b'{"workflow": NaN}', (400, "invalid_json")),
        (b"[" * 100_000, (400, "invalid_json")),
        (b'"\\ud800"', (400, "invalid_json")),
        (b"\xff\xfe", (400, "invalid_json")),
        ([], (422, "invalid_request")),
        ({}, (422, "invalid_request")),
        ({"workflow": []}, (422, "invalid_request")),
        ({"workflow": picture(1), "webhook_url": "https://x"}, (422, "invalid_request")),
        ({"workflow": picture(1), "inputs": {}}, (422, "invalid_request")),
        ({"workflow": picture(1), "extra_data": []}, (422, "invalid_request")),
        ({"workflow": picture(1), "extra_data": {"other": "x"}}, (422, "invalid_request")),
        (
            {"workflow": picture(1), "extra_data": {"api_key_comfy_org": 5}},
            (422, "invalid_request"),
        ),
        ({"workflow": {"nodes": [], "links": []}}, (422, "workflow_format_ui")),
        ({"workflow": {"nodes": [], "last_node_id": 0}}, (422, "workflow_format_ui")),
        ({"workflow": {}}, (422, "invalid_workflow")),
        ({"workflow": {"1": 5}}, (422, "invalid_workflow")),
        ({"workflow": {"1": {"class_type": 5, "inputs": {}}}}, (422, "invalid_workflow")),
        ({"workflow": {"prompt": picture(1)}}, (422, "invalid_workflow")),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(
    door: Door, body: Any, refusal: tuple[int, str]
) -> None:
    assert door.call("POST", "/jobs", body).refusal == refusal


def test_a_workflow_that_would_run_in_part_is_refused(door: Door) -> None:
    workflow = picture(1) | {
        "3": {"class_type": "SaveImage", "inputs": {"images": ["9", 0], "filename_prefix": "x"}}
    }
    assert door.server.post("/prompt", {"prompt": picture(1)}).status == 200
    answer = door.call("POST", "/jobs", {"workflow": workflow})
    assert answer.refusal == (422, "invalid_workflow")
    assert "3" in answer.json["error"]["details"]["node_errors"]


def test_a_key_is_good_for_one_job_and_released_by_a_refusal(door: Door) -> None:
    headers = {"Idempotency-Key": "job-key"}
    bad = door.call("POST", "/jobs", {"workflow": {}}, headers)
    assert bad.refusal == (422, "invalid_workflow")
    assert door.call("POST", "/jobs", {"workflow": picture(1)}, headers).status == 201
    for workflow in (picture(1), picture(2), {}):
        again = door.call("POST", "/jobs", {"workflow": workflow}, headers)
        assert again.refusal == (422, "idempotency_key_reuse")
    # The native door replays; its keys are others.
    native = door.server.post("/prompt", {"prompt": picture(2)}, **headers)
    replay = door.server.post("/prompt", {"prompt": picture(2)}, **headers)
    assert native.json["prompt_id"] == replay.json["prompt_id"]


def test_a_key_outlives_a_crash(home: Path, free_port: int) -> None:
    with v2_door(home, free_port) as door:
        headers = {"Idempotency-Key": "k"}
        first = door.call("POST", "/jobs", {"workflow": picture(1)}, headers)
        assert first.status == 201
        door.server.kill()
        door.server.start()
        again = door.call("POST", "/jobs", {"workflow": picture(1)}, headers)
        assert again.refusal == (422, "idempotency_key_reuse")
        assert door.ended(first.json["id"])["status"] == "succeeded"


def test_a_full_queue_and_a_stopped_deployment_say_so(home: Path, free_port: int) -> None:
    with v2_door(home, free_port, limits={"max_queue": 1}) as door:
        running = door.submit(sleeping(20))
        door.running(running["id"])
        waiting = door.submit(sleeping(20, "b"))
        headers = {"Idempotency-Key": "full"}
        full = door.call("POST", "/jobs", {"workflow": picture(1)}, headers)
        assert full.refusal == (429, "queue_full")
        assert int(full.headers["retry-after"]) >= 1
        canceled = door.call("POST", f"/jobs/{waiting['id']}/cancel")
        assert (canceled.status, canceled.json["status"]) == (200, "canceled")
        # The refusal gave the key back.
        accepted = door.call("POST", "/jobs", {"workflow": picture(1)}, headers)
        assert accepted.status == 201
        door.server.post("/api/v1/deployments/demo/stop")
        stopped = door.call("POST", "/jobs", {"workflow": picture(1)})
        assert stopped.refusal == (422, "deployment_stopped")
        # A server that is told to stop lets it end.
        door.call("POST", f"/jobs/{running['id']}/cancel")


def test_a_running_job_is_canceled_and_an_ended_one_is_left_alone(door: Door) -> None:
    job = door.submit(sleeping(20))
    door.running(job["id"])
    asked = door.call("POST", f"/jobs/{job['id']}/cancel").json
    assert asked["status"] in {"canceling", "canceled"}
    assert door.ended(job["id"])["status"] == "canceled"
    assert door.call("POST", f"/jobs/{job['id']}/cancel").json["status"] == "canceled"


def test_progress_is_a_whole_snapshot_that_only_grows(door: Door) -> None:
    job = door.submit(sleeping(1.5, f"p{time.time_ns()}"))
    values = []

    def has_ended() -> bool:
        now = door.job(job["id"])
        if now["progress"] is not None:
            values.append(now["progress"])
        return bool(now["status"] == "succeeded")

    wait_until(has_ended, 20, "it ends")
    assert {value["nodes_total"] for value in values} == {2}
    assert [value["value"] for value in values] == sorted(value["value"] for value in values)
    assert any(value["current_node_class"] == "TestingSleep" for value in values)
    assert any(0 < value["value"] < 1 for value in values)


def test_a_failure_names_its_node_and_has_a_log(door: Door) -> None:
    workflow = {
        "1": {"class_type": "TestingFail", "inputs": {"message": "it broke"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    job = door.ended(door.submit(workflow)["id"])
    assert job["status"] == "failed"
    assert job["error"]["code"] == "node_execution_error"
    assert job["error"]["node_id"] == "1"
    assert job["error"]["class_type"] == "TestingFail"
    logs = door.call("GET", f"/jobs/{job['id']}/logs")
    assert logs.status == 200
    assert logs.json["complete"] is True
    assert "it broke" in job["error"]["message"]
    assert job["error"]["traceback"] in logs.json["text"]


def test_a_job_of_another_deployment_is_unknown(door: Door) -> None:
    door.server.deploy("elsewhere")
    other = Door(door.server, "/d/elsewhere/api/v2")
    job = door.submit(picture(1))
    for method, path in (
        ("GET", ""),
        ("GET", "/workflow"),
        ("GET", "/logs"),
        ("GET", "/events"),
        ("POST", "/cancel"),
    ):
        answer = other.call(method, f"/jobs/{job['id']}{path}")
        assert answer.refusal == (404, "not_found")
    assert other.call("GET", "/jobs").json["jobs"] == []
    theirs = other.submit(picture(2))
    assert theirs["urls"]["self"] == f"/d/elsewhere/api/v2/jobs/{theirs['id']}"
    asset = door.upload(png((9, 9, 9)), "theirs.png").json
    refused = other.call("POST", "/jobs", {"workflow": loading(reference(asset["id"]))})
    assert refused.refusal == (422, "missing_asset")
    assert other.ended(theirs["id"])["status"] == "succeeded"


def test_a_body_over_the_limit_is_refused(home: Path, free_port: int) -> None:
    with v2_door(home, free_port) as door:
        door.server.stop()
        door.server.environment = {"COMFYSERVE_MAX_BODY_BYTES": "1000"}
        door.server.start()
        large = {"workflow": picture(1), "metadata": {"a": "x" * 2000}}
        assert door.call("POST", "/jobs", large).refusal == (413, "payload_too_large")


def test_what_is_over_is_gone_with_all_that_it_made(home: Path, free_port: int) -> None:
    with v2_door(home, free_port) as door:
        asset = door.upload(png((1, 1, 1)), "old.png").json
        job = door.ended(door.submit(loading(reference(asset["id"])))["id"])
        inputs = door.server.home.glob("deployments/*/input/*")
        (copy,) = inputs
        door.server.stop()
        door.server.environment = {"COMFYSERVE_RETENTION_S": "0.5"}
        door.server.start()
        wait_until(
            lambda: door.call("GET", f"/jobs/{job['id']}").status == 404, 10, "the job is over"
        )
        for path in ("", "/workflow", "/events", "/logs"):
            assert door.call("GET", f"/jobs/{job['id']}{path}").refusal == (404, "not_found")
        wait_until(lambda: not copy.exists(), 10, "the copy of its input is swept")


def test_tokens_open_the_door_to_what_they_are_for(home: Path, free_port: int) -> None:
    with v2_door(home, free_port) as door:
        door.server.deploy("other")
        far = {"X-Forwarded-For": "203.0.113.9"}
        assert door.call("GET", "/jobs", headers=far).refusal == (401, "unauthorized")
        wrong = Door(door.server, "/api/v2", "wrong")
        assert wrong.call("GET", "/jobs").refusal == (401, "unauthorized")
        secrets = {
            scope: door.server.post(
                "/api/v1/tokens", {"name": scope, "scopes": [scope], "deployment": "demo"}
            ).json["secret"]
            for scope in ("read", "run")
        }
        reader = Door(door.server, "/d/demo/api/v2", secrets["read"])
        runner = Door(door.server, "/d/demo/api/v2", secrets["run"])
        job = runner.submit(picture(1))
        assert reader.ended(job["id"])["status"] == "succeeded"
        assert reader.call("POST", "/jobs", {"workflow": picture(1)}).refusal == (403, "forbidden")
        assert reader.call("POST", f"/jobs/{job['id']}/cancel").refusal == (403, "forbidden")
        other = Door(door.server, "/d/other/api/v2", secrets["run"])
        assert other.call("GET", "/jobs").refusal == (403, "forbidden")
        listed = door.call("GET", "/jobs").json["jobs"]
        assert [item["id"] for item in listed] == [job["id"]]
