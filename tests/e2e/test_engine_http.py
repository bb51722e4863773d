"""The engine over HTTP: what a client can ask that the captured samples do not show."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.e2e.engine_process import EngineProcess, running

pytestmark = pytest.mark.e2e


def text(value: str) -> dict[str, Any]:
    return {"1": {"class_type": "TestingText", "inputs": {"text": value}}}


def sleep(seconds: float, tag: str = "") -> dict[str, Any]:
    inputs = {"seconds": seconds, "steps": 200, "previews": False, "tag": tag}
    return {
        "1": {"class_type": "TestingSleep", "inputs": inputs},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with running(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


def test_it_says_that_it_is_not_comfyui(engine: EngineProcess) -> None:
    system = engine.get("/system_stats").json["system"]
    assert system["comfyserve_engine"] == "0.1.0"
    assert system["comfyui_version"] == "0.33.0"
    page = engine.get("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<strong>not ComfyUI</strong>" in page.body.decode()


def test_our_id_is_kept_and_the_coerced_prompt_is_shown(engine: EngineProcess) -> None:
    prompt_id = str(uuid4())
    prompt = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": "16", "height": 8.9, "batch_size": 1, "color": 3},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    extra = {"extra_pnginfo": {"workflow": {"id": "w1"}}, "api_key_comfy_org": "secret"}
    entry = engine.run(prompt, prompt_id=prompt_id, client_id="c", extra_data=extra)
    number, shown_id, shown, shown_extra, outputs = entry["prompt"]
    assert (shown_id, outputs) == (prompt_id, ["2"])
    assert isinstance(number, int)
    assert shown["1"]["inputs"]["width"] == 16
    assert shown["1"]["inputs"]["height"] == 8
    assert shown_extra.keys() == {"client_id", "extra_pnginfo", "create_time"}
    job = engine.get(f"/api/jobs/{prompt_id}").json
    assert (job["workflow_id"], job["status"]) == ("w1", "completed")
    assert job["preview_output"]["filename"].startswith("ComfyUI_temp_")


def test_waiting_prompts_are_seen_ordered_and_taken_back(engine: EngineProcess) -> None:
    running_id = engine.start(sleep(60))
    later = engine.submit(text("later"))
    front = engine.submit(text("front"), front=True)
    numbered = engine.submit(text("numbered"), number=-1000)
    queue = engine.get("/queue").json
    assert [item[1] for item in queue["queue_running"]] == [running_id]
    assert sorted(queue["queue_pending"])[0][1] == numbered
    assert {item[1] for item in queue["queue_pending"]} == {later, front, numbered}
    assert engine.get("/prompt").json == {"exec_info": {"queue_remaining": 4}}
    assert engine.get(f"/history/{running_id}").json == {}

    engine.post("/queue", {"delete": [later, "unknown"]})
    assert engine.post(f"/api/jobs/{front}/cancel").json == {"cancelled": True}
    assert engine.post(f"/api/jobs/{front}/cancel").json == {"cancelled": False}
    assert engine.post("/api/jobs/cancel", {"job_ids": [running_id]}).json == {"cancelled": True}
    assert engine.finish(running_id)["status"]["status_str"] == "error"
    assert engine.finish(numbered)["outputs"] == {"1": {"text": ["numbered"]}}
    assert engine.get(f"/history/{later}").json == {}
    states = {job["id"]: job["status"] for job in engine.get("/api/jobs").json["jobs"]}
    assert (states[running_id], states[numbered]) == ("cancelled", "completed")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("status=done", "Invalid status value(s): done."),
        ("sort_by=size", "sort_by must be"),
        ("sort_order=up", "sort_order must be"),
        ("limit=0", "limit must be a positive integer"),
        ("limit=x", "limit must be an integer"),
        ("offset=x", "offset must be an integer"),
    ],
)
def test_job_lists_refuse_what_they_do_not_know(
    engine: EngineProcess, query: str, words: str
) -> None:
    reply = engine.get(f"/api/jobs?{query}")
    assert reply.status == 400
    assert reply.json["error"].startswith(words)


def test_job_lists_take_what_they_know(engine: EngineProcess) -> None:
    engine.run(text("listed"))
    listed = engine.get("/api/jobs?status=completed,failed&sort_by=execution_duration&limit=1").json
    assert len(listed["jobs"]) == 1
    assert listed["jobs"][0]["status"] == "completed"
    assert listed["pagination"]["limit"] == 1


def test_many_jobs_are_cancelled_only_by_proper_ids(engine: EngineProcess) -> None:
    reply = engine.post("/api/jobs/cancel", {"job_ids": ["x", 7]})
    assert (reply.status, reply.json["invalid_ids"]) == (400, ["x", "7"])
    assert engine.post("/api/jobs/cancel", {"job_ids": "x"}).status == 400
    assert engine.post("/api/jobs/cancel", b"{").status == 400


def test_free_drops_the_cache(engine: EngineProcess) -> None:
    prompt = text("kept")
    engine.run(prompt)
    assert cached(engine.run(prompt)) == ["1"]
    engine.post("/free", {"unload_models": True, "free_memory": True})
    assert cached(engine.run(prompt)) == []


def cached(entry: dict[str, Any]) -> list[str]:
    nodes: list[str] = entry["status"]["messages"][1][1]["nodes"]
    return nodes


def test_files_that_a_node_may_load_are_offered_at_once(engine: EngineProcess) -> None:
    def offered() -> list[str]:
        info = engine.get("/object_info/LoadImage").json
        names: list[str] = info["LoadImage"]["input"]["required"]["image"][0]
        return names

    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "fresh.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "made"}},
    }
    refused = engine.post("/prompt", {"prompt": prompt})
    assert refused.status == 400
    details = refused.json["node_errors"]["1"]["errors"][0]["details"]
    assert details == "image - Invalid image file: fresh.png"

    made = engine.run(
        {
            **prompt,
            "1": {
                "class_type": "EmptyImage",
                "inputs": {"width": 4, "height": 4, "batch_size": 1, "color": 0},
            },
        }
    )
    (file,) = made["outputs"]["2"]["images"]
    annotated = f"{file['filename']} [output]"
    prompt["1"]["inputs"] = {"image": annotated}
    assert engine.run(prompt)["status"]["completed"] is True
    assert "fresh.png" not in offered()
    saved = engine.directory / "output" / file["filename"]
    (engine.directory / "input" / "fresh.png").write_bytes(saved.read_bytes())
    assert "fresh.png" in offered()


def test_metadata_of_models(engine: EngineProcess) -> None:
    folder = engine.directory / "models" / "loras"
    folder.mkdir(parents=True)
    header = json.dumps({"__metadata__": {"ss_tag": "cat"}}).encode()
    (folder / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (folder / "b.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    assert engine.get("/models/loras").json == ["a.safetensors", "b.safetensors"]
    assert engine.get("/view_metadata/loras?filename=a.safetensors").json == {"ss_tag": "cat"}
    for name in ("b.safetensors", "../loras/../../x.safetensors", "a.txt"):
        assert engine.get(f"/view_metadata/loras?filename={name}").status == 404
    assert engine.get("/view_metadata/nope?filename=a.safetensors").status == 404


def test_settings_and_user_files(engine: EngineProcess) -> None:
    assert engine.post("/settings", {"a": 1, "b": 2}).status == 200
    assert engine.post("/api/settings/b", 3).status == 200
    assert engine.get("/settings").json == {"a": 1, "b": 3}
    workflows = engine.directory / "user" / "default" / "workflows"
    (workflows / "sub").mkdir(parents=True)
    for name in ("one.json", "sub/two.json"):
        (workflows / name).write_text("{}")
    assert engine.get("/userdata?dir=workflows").json == ["one.json"]
    recursive = engine.get("/userdata?dir=workflows&recurse=true").json
    assert recursive == ["one.json", "sub/two.json"]
    split = engine.get("/userdata?dir=workflows&recurse=true&split=true").json
    assert split[1] == ["sub/two.json", "sub", "two.json"]
    info = engine.get("/userdata?dir=workflows&full_info=true").json
    assert (info[0]["path"], info[0]["size"]) == ("one.json", 2)
    assert engine.get("/userdata/workflows%2Fsub%2Ftwo.json").json == {}
    assert engine.get("/userdata?dir=../..").status == 403


def test_active_content_is_given_out_as_bytes(engine: EngineProcess) -> None:
    for name in ("a.html", "a.svg", "a.js", "a.css", "a.xml"):
        (engine.directory / "output" / name).write_text("<b>")
        reply = engine.get(f"/view?filename={name}")
        assert reply.headers["Content-Type"] == "application/octet-stream", name
        assert reply.headers["X-Content-Type-Options"] == "nosniff"


def test_uploads_are_bounded(tmp_path: Path) -> None:
    with running(tmp_path, "--max-upload-size", "0.001") as engine:
        assert engine.get("/features").json["max_upload_size"] == 1049
        assert engine.post("/prompt", {"prompt": text("x" * 3000)}).status == 413


def test_logs_are_kept(engine: EngineProcess) -> None:
    engine.run(text("logged"))
    assert "got prompt\n" in engine.get("/internal/logs").json
    entries = engine.get("/internal/logs/raw").json["entries"]
    assert {"t", "m"} == set(entries[0])


def test_nothing_is_written_into_images_where_it_is_not_wanted(tmp_path: Path) -> None:
    prompt = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 4, "height": 4, "batch_size": 1, "color": 0},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "bare"}},
    }
    with running(tmp_path, "--disable-metadata") as engine:
        engine.run(prompt)
    assert b"tEXt" not in (tmp_path / "output" / "bare_00001_.png").read_bytes()
