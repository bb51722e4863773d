"""`run` against a scripted server: what is sent, what is shown, what is saved."""

import json
from pathlib import Path
from typing import Any

import pytest

from comfyserve.cli.errors import ExitCode
from comfyserve.domain.job import JobError, JobState
from comfyserve.testing import control_answers as answers
from comfyserve.testing.command import Cli
from comfyserve.testing.control_server import ControlServer, Scripted, refused, stream

PROMPT = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}, "_meta": {"title": "Photo"}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
}
JOB = f"/api/v1/jobs/{answers.JOB_ID}"
QUEUED = ("job", answers.job(JobState.QUEUED, position=0))


def executing(node: str | None) -> tuple[str, dict[str, Any]]:
    return "message", {"type": "executing", "data": {"node": node}}


@pytest.fixture
def workflow(tmp_path: Path) -> str:
    path = tmp_path / "w.json"
    path.write_text(json.dumps(PROMPT))
    return str(path)


def accept(control: ControlServer, *, prefix: str = "") -> None:
    body = {"prompt_id": answers.JOB_ID, "number": 1, "node_errors": {}}
    control.on("POST", f"{prefix}/prompt", body)


def succeed(control: ControlServer) -> dict[str, Any]:
    """Let the job succeed with one picture; return it."""
    job = answers.job(outputs=(answers.output(control.url),))
    control.on(
        "GET",
        f"{JOB}/events",
        stream(
            QUEUED,
            ("stage", {"stage": "starting", "position": 0, "replica": "rp_a", "detail": ""}),
            ("stage", {"stage": "running", "position": None, "replica": "rp_a", "detail": ""}),
            executing("1"),
            executing("9"),
            executing(None),
            ("end", job),
        ),
    )
    control.on("GET", JOB, job)
    control.on("GET", "/d/demo/view", Scripted(body=b"12345"))
    return job


def test_a_workflow_is_sent_watched_and_its_files_are_saved(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    accept(control)
    succeed(control)
    ran = cli("run", workflow)
    assert ran.code == 0
    assert ran.out == "comfyserve-out/a.png\n"
    assert Path("comfyserve-out/a.png").read_bytes() == b"12345"
    (sent,) = control.requests("POST", "/prompt")
    assert sent.json == {"prompt": PROMPT}
    assert len(sent.headers["Idempotency-Key"]) == 36
    said = ran.err.splitlines()
    assert said[0] == f"job {answers.JOB_ID}"
    assert [line.split("  ")[0] for line in said if line.startswith("✔")] == [
        "✔ 1 Photo",
        "✔ 9 SaveImage",
    ]
    assert "… waking rp_a" in said
    assert any(line.startswith("total") and "1000 ms" in line for line in said)


def test_a_deployment_is_addressed_by_its_path(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    accept(control, prefix="/d/demo")
    succeed(control)
    assert cli("run", workflow, "--deployment", "demo", "--out", "elsewhere").code == 0
    assert Path("elsewhere/a.png").exists()


def test_json_gives_the_job_and_where_its_files_are(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    accept(control)
    job = succeed(control)
    ran = cli("run", workflow, "--json")
    assert ran.json == {**job, "saved": ["comfyserve-out/a.png"]}


def test_a_file_that_is_there_is_never_overwritten(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    accept(control)
    succeed(control)
    assert [cli("run", workflow).out for _ in range(3)] == [
        "comfyserve-out/a.png\n",
        "comfyserve-out/a-2.png\n",
        "comfyserve-out/a-3.png\n",
    ]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"subfolder": "x/y"}, "comfyserve-out/x/y/a.png"),
        ({"type": "temp"}, "comfyserve-out/temp/a.png"),
        ({"subfolder": "../../etc"}, "comfyserve-out/etc/a.png"),
        ({"subfolder": "/etc", "name": "../passwd"}, "comfyserve-out/etc/passwd"),
    ],
)
def test_subfolders_are_kept_and_none_leads_out_of_the_directory(
    control: ControlServer, cli: Cli, workflow: str, changes: dict[str, str], path: str
) -> None:
    accept(control)
    name = changes.pop("name", "a.png")
    job = answers.job(outputs=(answers.output(control.url, name, **changes),))
    control.on("GET", f"{JOB}/events", stream(("job", job), ("end", job)))
    control.on("GET", "/d/demo/view", Scripted(body=b"12345"))
    assert cli("run", workflow).out == f"{path}\n"


def test_a_file_that_does_not_come_whole_is_not_kept(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    accept(control)
    succeed(control)
    control.on("GET", "/d/demo/view", Scripted(body=b"1234"))
    cli("run", workflow)
    ran = cli("run", workflow)
    assert ran.code == ExitCode.FAILED
    assert "a.png came with 4 of 5 bytes" in ran.err
    assert [path.name for path in Path("comfyserve-out").iterdir()] == ["a.png"]


def test_an_output_directory_that_cannot_be_written_says_where_the_outputs_are(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    accept(control)
    succeed(control)
    Path("blocked").write_text("a file")
    ran = cli("run", workflow, "--out", "blocked/inside")
    assert ran.code == ExitCode.FAILED
    assert "cannot save to" in ran.err
    assert f"`comfyserve job show {answers.JOB_ID}`" in ran.err


def test_settings_and_uploads_reach_the_prompt(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    accept(control)
    succeed(control)
    Path("photo.png").write_bytes(b"pixels")
    stored = {"name": "photo (1).png", "subfolder": "", "type": "input"}
    control.on("POST", "/upload/image", stored)
    ran = cli("run", workflow, "--input", "photo.png", "--set", "9.filename_prefix=b")
    assert ran.code == 0
    (sent,) = control.requests("POST", "/prompt")
    assert sent.json["prompt"]["1"]["inputs"]["image"] == "photo (1).png"
    assert sent.json["prompt"]["9"]["inputs"]["filename_prefix"] == "b"
    assert "warning" not in ran.err


def test_an_upload_that_nothing_refers_to_is_pointed_out(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    accept(control)
    succeed(control)
    Path("other.png").write_bytes(b"pixels")
    control.on("POST", "/upload/image", {"name": "other.png", "subfolder": "s", "type": "input"})
    ran = cli("run", workflow, "--input", "other.png")
    assert "no input of the workflow is 'other.png'" in ran.err
    assert "--set NODE.INPUT=s/other.png" in ran.err


def test_a_refused_workflow_names_node_input_and_hint(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    body = {
        "error": {"type": "prompt_outputs_failed_validation", "message": "Failed", "details": ""},
        "node_errors": {
            "1": {
                "errors": [
                    {
                        "type": "custom_validation_failed",
                        "message": "Custom validation failed for node",
                        "details": "image - Invalid image file: photo.png",
                        "extra_info": {"input_name": "image"},
                        "comfyserve": {"hint": "Upload it first."},
                    }
                ],
                "dependent_outputs": ["9"],
                "class_type": "LoadImage",
            }
        },
    }
    control.on("POST", "/prompt", Scripted(400, json.dumps(body).encode()))
    ran = cli("run", workflow)
    assert ran.code == ExitCode.REFUSED
    assert ran.err.splitlines() == [
        "error: the workflow was refused: Failed",
        '  node 1 "Photo" (LoadImage)',
        "    image: Custom validation failed for node: image - Invalid image file: photo.png",
        "      hint: Upload it first.",
    ]
    assert cli("run", workflow, "--json").json == body


def test_a_part_that_does_not_run_is_never_passed_over_in_silence(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    entry = {"errors": [{"message": "no", "details": "why"}], "class_type": "PreviewImage"}
    control.on(
        "POST",
        "/prompt",
        {"prompt_id": answers.JOB_ID, "number": 1, "node_errors": {"12": entry}},
    )
    succeed(control)
    ran = cli("run", workflow)
    assert ran.code == 0
    assert "only a part of the workflow runs" in ran.err
    assert "  node 12 (PreviewImage)" in ran.err


def test_a_failed_job_says_where_and_why_with_the_end_of_the_log(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    accept(control)
    error = JobError(
        code="node_execution_error",
        message="CUDA is gone",
        node_id="1",
        class_type="LoadImage",
        traceback=("  File a\n", "  File b\n    x = 1\n"),
        log_tail=("last line",),
    )
    job = answers.job(JobState.FAILED, error=error)
    control.on("GET", f"{JOB}/events", stream(("job", job), ("end", job)))
    ran = cli("run", workflow)
    assert ran.code == ExitCode.FAILED
    assert f"error: job {answers.JOB_ID} failed at node 1 (LoadImage): CUDA is gone" in ran.err
    assert ran.err.splitlines()[-4:] == [
        "    File a",
        "    File b",
        "      x = 1",
        "  last line",
    ]


@pytest.mark.parametrize(
    ("state", "code"),
    [(JobState.CANCELED, ExitCode.FAILED), (JobState.EXPIRED, ExitCode.TIMED_OUT)],
)
def test_other_ends_have_their_codes(
    control: ControlServer, cli: Cli, workflow: str, state: JobState, code: int
) -> None:
    accept(control)
    job = answers.job(state)
    control.on("GET", f"{JOB}/events", stream(("job", job), ("end", job)))
    assert cli("run", workflow).code == code


def test_waiting_ends_at_the_timeout_and_the_job_goes_on(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    accept(control)
    control.on("GET", f"{JOB}/events", stream(QUEUED, "beat", hangs=True))
    ran = cli("run", workflow, "--timeout", "0.3")
    assert ran.code == ExitCode.TIMED_OUT
    assert "did not end within 0.3 s. It goes on" in ran.err
    assert not control.requests("POST", f"{JOB}/cancel")


def test_a_lost_connection_is_taken_up_again(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    """A server that restarts goes on with every job; so does whoever watches."""
    accept(control)
    control.on("GET", f"{JOB}/events", stream(QUEUED, breaks=True))
    control.on("GET", f"{JOB}/events", refused(503, "not_ready", "starting"))
    succeed(control)
    ran = cli("run", workflow)
    assert ran.code == 0
    assert ran.out == "comfyserve-out/a.png\n"
    assert ran.err.count("the connection was lost; the job is safe, trying again") == 1


def test_a_submission_without_an_answer_is_sent_again_under_the_same_key(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    control.on("POST", "/prompt", Scripted(status=0))
    accept(control)
    succeed(control)
    ran = cli("run", workflow)
    assert ran.code == 0
    first, second = control.requests("POST", "/prompt")
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert "sending the workflow again, under the same key" in ran.err


def test_ctrl_c_where_nobody_can_answer_leaves_the_job_running(
    control: ControlServer, cli: Cli, workflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(control)
    control.on("GET", f"{JOB}/events", stream(QUEUED, hangs=True))

    def press_ctrl_c(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("comfyserve.cli.follow.Follower.follow", press_ctrl_c)
    ran = cli("run", workflow)
    assert ran.code == ExitCode.INTERRUPTED
    assert f"`comfyserve job show {answers.JOB_ID}`" in ran.err
    assert f"`comfyserve job cancel {answers.JOB_ID}`" in ran.err
    assert not control.requests("POST", f"{JOB}/cancel")


def test_a_workflow_can_come_from_stdin(
    control: ControlServer, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    accept(control)
    succeed(control)
    path = tmp_path / "stdin"
    path.write_text(json.dumps(PROMPT))
    with path.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert cli("run", "-").code == 0
    assert control.requests("POST", "/prompt")[0].json == {"prompt": PROMPT}


def test_no_server_is_one_line_that_says_how_to_start_one(
    cli: Cli, workflow: str, free_port: int
) -> None:
    ran = cli("run", workflow, "--url", f"http://127.0.0.1:{free_port}")
    assert ran.code == ExitCode.FAILED
    assert ran.err == (
        f"error: no server at http://127.0.0.1:{free_port}: start one with `comfyserve serve`, or "
        "set COMFYSERVE_URL\n"
    )


def test_slow_steps_are_said_now_and_then_where_nobody_watches(
    control: ControlServer, cli: Cli, workflow: str
) -> None:
    """A pipe gets whole lines and no escape codes."""
    accept(control)
    succeed(control)
    ran = cli("run", workflow)
    assert "\x1b" not in ran.err
    assert "\r" not in ran.err
