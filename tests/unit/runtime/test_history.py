"""History entries: the engine's own words under the client's ids, and nothing secret."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.domain.job import Job, JobDocuments, JobError, JobState
from comfyserve.runtime import history
from comfyserve.runtime.comfy import Rejected

PROMPT = {"1": {"class_type": "FakeImage", "inputs": {}}}
JOB = Job(
    id="6ad2ae5b-4f8f-4f6e-9e0e-0d5ad8c4b5d1",
    deployment_id="dp_1",
    revision_id="rv_1",
    prompt_id="theirs",
    number=3.0,
    state=JobState.RUNNING,
    created_at=100.0,
    client_id="me",
)
DOCUMENTS = JobDocuments(
    prompt=PROMPT,
    extra_data={"extra_pnginfo": {"workflow": {}}, "api_key_comfy_org": "sk-1"},
    outputs_to_execute=("9", "10"),
    secrets={"auth_token_comfy_org": "t-1"},
)
ENTRY: dict[str, Any] = {
    "prompt": [0, JOB.id, {"1": {"coerced": True}}, {}, ["9"]],
    "outputs": {"9": {"images": []}},
    "status": {
        "status_str": "success",
        "completed": True,
        "messages": [["execution_start", {"prompt_id": JOB.id, "timestamp": 5}], "odd", [1]],
    },
    "meta": {"9": {"node_id": "9"}},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


def decoded(entry: bytes) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(entry)
    return read


@pytest.mark.parametrize(
    ("number", "shown"), [(3.0, "3"), (-7.0, "-7"), (0.5, "0.5"), (1e18, "1000000000000000000")]
)
def test_a_counter_is_an_int_on_the_wire(number: float, shown: str) -> None:
    assert json.dumps(history.wire_number(number)) == shown


def test_a_queue_item_is_the_clients_and_holds_no_secret() -> None:
    item = history.queue_item(JOB, DOCUMENTS)
    assert item[:3] == [3, "theirs", PROMPT]
    assert item[3] == {"extra_pnginfo": {"workflow": {}}, "client_id": "me"}
    assert item[4] == ["9", "10"]
    assert "client_id" not in history.queue_item(replace(JOB, client_id=None), DOCUMENTS)[3]


def test_a_finished_entry_is_the_engines_own_with_our_names() -> None:
    outputs = {"9": {"images": [{"filename": "public.png"}]}}
    entry = decoded(history.finished_entry(ENTRY, JOB, DOCUMENTS, outputs))
    assert entry["outputs"] == outputs
    assert entry["prompt"][:3] == [3, "theirs", {"1": {"coerced": True}}]
    assert entry["prompt"][4] == ["9"]
    assert entry["status"]["messages"] == [
        ["execution_start", {"prompt_id": "theirs", "timestamp": 5}]
    ]
    assert entry["meta"] == ENTRY["meta"]
    assert "sk-1" not in json.dumps(entry)


@given(JSON)
def test_an_entry_is_made_of_whatever_an_engine_kept(odd: Any) -> None:
    kept = odd if isinstance(odd, dict) else {"outputs": odd}
    made = decoded(history.finished_entry({**kept, "status": {}}, JOB, DOCUMENTS, {}))
    assert made["prompt"][1] == "theirs"
    assert made["status"]["messages"] == []


def test_an_entry_of_a_job_that_no_engine_ended() -> None:
    error = JobError("replica_lost", "it went", exit_code=9, log_tail=("last words",))
    failed = replace(JOB, error=error, finished_at=120.0)
    entry = decoded(history.of_failed_wait(failed, DOCUMENTS))
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["completed"] is False
    [[kind, data]] = entry["status"]["messages"]
    assert kind == "execution_error"
    assert data["prompt_id"] == "theirs"
    assert data["exception_message"] == "it went"
    assert data["exception_type"] == "comfyserve.replica_lost"
    assert data["traceback"] == ["last words"]
    assert data["timestamp"] == 120_000
    assert "internal_error" in history.of_failed_wait(JOB, DOCUMENTS).decode()


def test_success_is_what_the_engine_calls_so() -> None:
    assert history.is_success(ENTRY)
    assert not history.is_success({"status": {"status_str": "error"}})
    assert not history.is_success({"status": None})
    assert not history.is_success({})


def test_the_endings_that_an_engine_kept() -> None:
    messages = [["execution_start", {}], ["execution_error", {"a": 1}]]
    [said] = history.endings_of({"status": {"messages": messages}})
    assert (said.kind, said.data) == ("execution_error", {"a": 1})
    assert history.endings_of({}) == ()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (
            {
                "exception_message": " no such file\n",
                "exception_type": "FileNotFoundError",
                "node_id": 7,
                "node_type": "LoadImage",
                "traceback": ["a", "b"],
            },
            JobError(
                "node_execution_error",
                "no such file",
                "7",
                "LoadImage",
                "FileNotFoundError",
                ("a", "b"),
            ),
        ),
        ({"exception_type": "torch.OutOfMemoryError"}, None),
        ({"exception_type": "torch.cuda.OutOfMemoryError"}, None),
        ({"exception_type": "MemoryError"}, None),
        ({}, JobError("node_execution_error", "the node failed")),
        ({"traceback": "text", "exception_message": None}, None),
    ],
)
def test_what_went_wrong_in_a_node(data: dict[str, Any], error: JobError | None) -> None:
    read = history.read_error(data)
    if error is not None:
        assert read == error
    is_memory = "Memory" in str(data.get("exception_type"))
    assert (read.code == "out_of_memory") is is_memory
    assert read.message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "no outputs"}}, "no outputs"),
        ({"error": "plain"}, "plain"),
        ({}, "None"),
        ({"error": {"message": "x"}, "node_errors": []}, "x"),
        ({"error": {"message": "x"}, "node_errors": {"1": None}}, "x"),
        ({"error": {"message": "x"}, "node_errors": {"1": {"errors": ["odd"]}}}, "x"),
    ],
)
def test_what_an_engine_said_when_it_refused(body: dict[str, Any], said: str) -> None:
    error = history.read_rejection(Rejected(400, body))
    assert error.code == "engine_rejected"
    assert error.message == f"the engine refused the prompt (400): {said}"
    assert error.traceback == ()


def test_a_summary_counts_files_and_prefers_a_saved_one() -> None:
    preview = {"filename": "p.png", "subfolder": "", "type": "temp"}
    saved = {"filename": "s.png", "subfolder": "", "type": "output"}
    outputs = {
        "1": {"images": [preview], "text": ["hi"], "n": 5},
        "2": {"images": [saved], "parchments": [{"filename": "x.bin", "type": "output"}]},
        "3": None,
    }
    summary = history.summarize(outputs)
    assert (summary["outputs_count"], summary["previewable_outputs_count"]) == (3, 2)
    assert summary["preview_output"] == {**saved, "nodeId": "2", "mediaType": "images"}
    assert history.summarize({}) == {"outputs_count": 0, "previewable_outputs_count": 0}


@pytest.mark.parametrize(
    ("kind", "name", "is_shown"),
    [
        ("images", "a.bin", True),
        ("scrolls", "a.webm", True),
        ("scrolls", "a.mp3", True),
        ("scrolls", "a.bin", False),
        ("scrolls", "", False),
    ],
)
def test_what_can_be_shown(kind: str, name: str, is_shown: bool) -> None:
    summary = history.summarize({"1": {kind: [{"filename": name, "type": "temp"}]}})
    assert summary["previewable_outputs_count"] == is_shown
    assert summary.get("preview_output", {}).get("filename") == (name if is_shown else None)


def test_a_media_entry_without_a_file_is_not_shown() -> None:
    assert history.summarize({"1": {"images": [{}]}})["previewable_outputs_count"] == 0


def test_messages_carry_the_id_that_the_client_chose() -> None:
    data = {
        "prompt_id": JOB.id,
        "nodes": {"1": {"prompt_id": JOB.id, "value": 1}, "2": None},
    }
    changed = history.with_prompt_id(data, JOB)
    assert changed["prompt_id"] == "theirs"
    assert changed["nodes"] == {"1": {"prompt_id": "theirs", "value": 1}, "2": None}
    assert data["prompt_id"] == JOB.id
    assert history.with_prompt_id({"value": 1}, JOB) == {"value": 1}
    same = replace(JOB, prompt_id=JOB.id)
    assert history.with_prompt_id(data, same) is data
