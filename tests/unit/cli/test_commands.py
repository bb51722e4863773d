"""Each command against a scripted server: what it asks for and what it prints."""

import json
from datetime import UTC, datetime
from typing import Any

import click
import pytest

from comfyserve.cli.errors import ExitCode
from comfyserve.cli.usage import read_moment
from comfyserve.domain.errors import StartFailed
from comfyserve.domain.job import JobError, JobState
from comfyserve.domain.replica import ReplicaState
from comfyserve.domain.spec import DeploymentSpec, EngineKind, EngineSpec, Resources
from comfyserve.testing import control_answers as answers
from comfyserve.testing.command import Cli
from comfyserve.testing.control_server import ControlServer, Scripted, refused

REPLICA = "rp_aaaaaaaaaaaaaaaaaaaa"


def test_status_shows_the_deployments_as_a_table_that_can_be_cut_by_columns(
    control: ControlServer, cli: Cli
) -> None:
    items = [answers.deployment("demo"), answers.deployment("a-" + "very-long-name-" * 8 + "z")]
    control.on("GET", "/api/v1/deployments", {"deployments": items})
    for command in (["status"], ["deployment", "list"]):
        ran = cli(*command)
        header, rule, first, second = ran.out.splitlines()
        assert header.split() == [
            "NAME", "STATUS", "ENGINE", "REPLICAS", "QUEUED", "RUNNING", "REV", "UPDATED", "URL",
        ]  # fmt: skip
        assert set(rule) <= {"─", " "}
        assert first.split()[:2] == ["demo", "asleep"]
        assert second.split()[0] == items[1]["name"], "nothing is cut where no terminal is"
        assert "\x1b" not in ran.out
        assert not any(line.endswith(" ") for line in ran.out.splitlines())


def test_status_of_nothing_says_what_to_try(control: ControlServer, cli: Cli) -> None:
    control.on("GET", "/api/v1/deployments", {"deployments": []})
    ran = cli("status")
    assert (ran.code, ran.out) == (0, "")
    assert "`comfyserve deploy demo --engine embedded`" in ran.err


def test_status_of_one_shows_why_it_cannot_start(control: ControlServer, cli: Cli) -> None:
    failure = StartFailed("no module torch", log_tail=["Traceback", "ModuleNotFoundError"])
    item = answers.deployment(failure=failure)
    item["replicas"] = [answers.replica(ReplicaState.STARTING)]
    control.on("GET", "/api/v1/deployments/demo", item)
    ran = cli("status", "demo")
    assert ran.code == 0
    assert "failing" in ran.out
    assert REPLICA in ran.out
    assert "ModuleNotFoundError" in ran.err


@pytest.mark.parametrize(
    ("arguments", "method", "path", "document"),
    [
        (["status"], "GET", "/deployments", {"deployments": [answers.deployment()]}),
        (["status", "demo"], "GET", "/deployments/demo", answers.deployment()),
        (["deployment", "list"], "GET", "/deployments", {"deployments": []}),
        (["deployment", "warm", "demo"], "POST", "/deployments/demo/warm", answers.deployment()),
        (["stop", "demo"], "POST", "/deployments/demo/stop", answers.deployment()),
        (["start", "demo"], "POST", "/deployments/demo/start", answers.deployment()),
        (["replica", "list"], "GET", "/replicas", {"replicas": [answers.replica()]}),
        (["replica", "stop", REPLICA], "POST", f"/replicas/{REPLICA}/stop", answers.replica()),
        (["job", "list"], "GET", "/jobs", {"jobs": [answers.job()], "next_cursor": None}),
        (["job", "show", "j"], "GET", "/jobs/j", answers.job()),
        (["usage"], "GET", "/usage", answers.usage()),
        (["token", "list"], "GET", "/tokens", {"tokens": [answers.token()]}),
        (["webhook", "list"], "GET", "/webhooks", {"webhooks": [answers.webhook()]}),
        (["webhook", "show", "wh_1"], "GET", "/webhooks/wh_1", answers.webhook()),
        (
            ["webhook", "create", "https://a.example"],
            "POST",
            "/webhooks",
            answers.webhook("whsec_x"),
        ),
        (
            ["webhook", "rotate", "wh_1"],
            "POST",
            "/webhooks/wh_1/rotate",
            answers.webhook("whsec_x"),
        ),
        (["webhook", "secret"], "GET", "/webhook-secret", {"secret": "whsec_x"}),
        (["webhook", "test", "wh_1"], "POST", "/webhooks/wh_1/test", {"delivered": True}),
        (["webhook", "show", "msg_1"], "GET", "/webhook-deliveries/msg_1", answers.delivery()),
        (
            ["webhook", "deliveries"],
            "GET",
            "/webhook-deliveries",
            {"deliveries": [answers.delivery()], "next_cursor": "msg_1"},
        ),
        (["token", "create", "ci"], "POST", "/tokens", answers.token("cs_secret")),
    ],
)
def test_json_is_what_the_server_said(
    control: ControlServer,
    cli: Cli,
    arguments: list[str],
    method: str,
    path: str,
    document: dict[str, Any],
) -> None:
    later = {**document, "a_field_of_a_later_version": [1]}
    control.on(method, f"/api/v1{path}", later)
    ran = cli(*arguments, "--json")
    assert ran.code == 0
    assert ran.json == later
    assert ran.err == ""
    assert cli(*arguments).code == 0, "the same as a table"


def test_json_can_be_switched_on_for_all_commands_at_once(
    control: ControlServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYSERVE_JSON", "1")
    control.on("GET", "/api/v1/deployments", {"deployments": []})
    assert cli("status").json == {"deployments": []}


def test_a_deployment_is_deleted_only_when_somebody_says_so(
    control: ControlServer, cli: Cli
) -> None:
    control.on("GET", "/api/v1/deployments/demo", answers.deployment())
    control.on("DELETE", "/api/v1/deployments/demo", Scripted(204))
    ran = cli("rm", "demo")
    assert ran.code == ExitCode.USAGE
    assert "--yes" in ran.err
    assert not control.requests("DELETE", "/api/v1/deployments/demo")
    assert cli("rm", "demo", "--yes").err == "demo is deleted\n"
    assert len(control.requests("DELETE", "/api/v1/deployments/demo")) == 1


def test_deleting_what_is_not_there_is_said_before_anybody_is_asked(
    control: ControlServer, cli: Cli
) -> None:
    assert cli("rm", "nope").code == ExitCode.NOT_FOUND
    assert not control.requests("DELETE", "/api/v1/deployments/nope")


def test_a_token_is_revoked_only_when_somebody_says_so(control: ControlServer, cli: Cli) -> None:
    control.on("DELETE", "/api/v1/tokens/tk_1", Scripted(204))
    assert cli("token", "revoke", "tk_1").code == ExitCode.USAGE
    assert cli("token", "revoke", "tk_1", "-y").err == "tk_1 is revoked\n"


def test_a_new_token_has_its_secret_alone_on_stdout(control: ControlServer, cli: Cli) -> None:
    control.on("POST", "/api/v1/tokens", answers.token("cs_secret"))
    ran = cli("token", "create", "ci", "--scope", "read", "--scope", "run", "-d", "demo")
    assert ran.out == "cs_secret\n"
    assert control.seen[0].json == {"name": "ci", "scopes": ["read", "run"], "deployment": "demo"}


def test_lists_without_entries_say_so_and_give_no_data(control: ControlServer, cli: Cli) -> None:
    control.on("GET", "/api/v1/replicas", {"replicas": []})
    control.on("GET", "/api/v1/jobs", {"jobs": [], "next_cursor": None})
    control.on("GET", "/api/v1/tokens", {"tokens": []})
    for command, said in (
        (("replica", "list"), "no replicas: everything is asleep"),
        (("job", "list"), "no jobs"),
        (("token", "list"), "no tokens"),
    ):
        ran = cli(*command)
        assert ran.out == ""
        assert said in ran.err


def test_jobs_are_asked_for_with_all_filters(control: ControlServer, cli: Cli) -> None:
    page = {"jobs": [answers.job(JobState.QUEUED, position=3)], "next_cursor": "c2"}
    control.on("GET", "/api/v1/jobs", page)
    ran = cli(
        "job", "list", "-d", "demo", "--state", "queued", "--state", "running",
        "--label", "team=film", "--limit", "1", "--cursor", "c1",
    )  # fmt: skip
    assert control.seen[0].query == {
        "deployment": ["demo"],
        "state": ["queued", "running"],
        "label": ["team=film"],
        "limit": ["1"],
        "cursor": ["c1"],
    }
    assert "queued, 3 before it" in ran.out
    assert "--cursor c2" in ran.err


@pytest.mark.parametrize("option", [("--state", "done"), ("--label", "x"), ("--limit", "0")])
def test_a_filter_that_makes_no_sense_is_a_usage_error(
    control: ControlServer, cli: Cli, option: tuple[str, str]
) -> None:
    assert cli("job", "list", *option).code == ExitCode.USAGE
    assert not control.seen


def test_a_job_is_shown_with_error_outputs_and_receipt(control: ControlServer, cli: Cli) -> None:
    error = JobError("out_of_memory", "no memory left", "3", "KSampler", log_tail=("OOM",))
    outputs = (answers.output(control.url, "[red]a.png"),)
    job = answers.job(JobState.FAILED, error=error, outputs=outputs)
    control.on("GET", "/api/v1/jobs/j", job)
    ran = cli("job", "show", "j")
    for text in ("no memory left", "node 3 (KSampler)", "[red]a.png", "team=film", "execute"):
        assert text in ran.out
    assert "OOM" in ran.err


def test_several_jobs_are_canceled_at_once(control: ControlServer, cli: Cli) -> None:
    for name in ("a", "b"):
        control.on("POST", f"/api/v1/jobs/{name}/cancel", answers.job(JobState.CANCELED))
    ran = cli("job", "cancel", "a", "b")
    assert ran.err.splitlines() == [f"job {answers.JOB_ID} is canceled"] * 2
    assert len(cli("job", "cancel", "a", "b", "--json").json["jobs"]) == 2


def test_replicas_that_have_ended_are_asked_for(control: ControlServer, cli: Cli) -> None:
    control.on("GET", "/api/v1/replicas", {"replicas": [answers.replica(ReplicaState.STOPPED)]})
    ran = cli("replica", "list", "--all", "-d", "demo")
    assert control.seen[0].query == {"all": ["true"], "deployment": ["demo"]}
    assert "stopped by user" in ran.out


@pytest.mark.parametrize(("name", "kind"), [("demo", "deployments"), (REPLICA, "replicas")])
def test_logs_are_copied_byte_by_byte(
    control: ControlServer, cli: Cli, name: str, kind: str
) -> None:
    log = (b"line \x1b[31mred\x1b[0m\n", "käse\n".encode(), b"no newline at the end")
    control.on("GET", f"/api/v1/{kind}/{name}/logs", Scripted(pieces=log))
    ran = cli("logs", name, "--tail", "7", "--follow")
    assert ran.out == "line \x1b[31mred\x1b[0m\nkäse\nno newline at the end"
    assert control.seen[0].query == {"tail": ["7"], "follow": ["true"]}


def test_usage_is_shown_by_deployment_and_replica(control: ControlServer, cli: Cli) -> None:
    control.on("GET", "/api/v1/usage", answers.usage())
    ran = cli("usage", "--since", "2026-01-01T00:00:00Z", "--deployment", "demo")
    rows = [line.split()[0] for line in ran.out.splitlines() if line.strip(" ─")]
    assert rows == ["WHAT", "demo", REPLICA, "total"]
    assert "2.5000" in ran.out
    assert control.seen[0].query == {"deployment": ["demo"], "since": ["1767225600.0"]}


def test_usage_of_what_is_deleted_is_one_line_and_still_sums_up(
    control: ControlServer, cli: Cli
) -> None:
    usage = answers.usage()
    gone = [{**usage["deployments"][0], "name": "", "cost": cost} for cost in (0.25, 0.5)]
    parts = [{**usage["replicas"][0], "deployment": "", "id": name} for name in ("rp_1", "rp_2")]
    both = {**usage, "deployments": gone, "replicas": parts}
    control.on("GET", "/api/v1/usage", both)
    rows = [line.split() for line in cli("usage").out.splitlines() if line.strip(" ─")]
    assert [row[0] for row in rows] == ["WHAT", "(deleted)", "rp_1", "rp_2", "total"]
    assert rows[1][-1] == "0.7500"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90m", "2026-01-02T01:34:05Z"),
        ("24h", "2026-01-01T03:04:05Z"),
        ("1.5d", "2025-12-31T15:04:05Z"),
        ("2w", "2025-12-19T03:04:05Z"),
        ("2026-01-01T12:00:00+02:00", "2026-01-01T10:00:00Z"),
    ],
)
def test_moments_are_read_as_people_write_them(text: str, moment: str) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert read_moment(text, now) == datetime.fromisoformat(moment).timestamp()


@pytest.mark.parametrize("text", ["yesterday", "5x", "", "-3h"])
def test_other_moments_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="how long ago"):
        read_moment(text, datetime(2026, 1, 2, tzinfo=UTC))


def test_the_token_of_the_environment_is_shown(
    control: ControlServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYSERVE_TOKEN", "cs_env")
    control.on("GET", "/api/v1/deployments", {"deployments": []})
    cli("status")
    cli("status", "--token", "cs_option")
    shown = [request.headers["Authorization"] for request in control.seen]
    assert shown == ["Bearer cs_env", "Bearer cs_option"]


def test_a_setting_that_cannot_be_read_is_a_usage_error(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYSERVE_LEASE_S", "soon")
    ran = cli("status")
    assert ran.code == ExitCode.USAGE
    assert "setting 'lease_s' cannot be 'soon'" in ran.err


DEPLOY = "/api/v1/deployments/studio"


def deployed(control: ControlServer, **more: Any) -> None:
    control.on("PUT", DEPLOY, answers.deployment("studio", url=control.url, **more))
    control.on("GET", "/d/studio/object_info", {"A": {}, "B": {}})


def test_deploy_sends_only_what_was_said(control: ControlServer, cli: Cli) -> None:
    deployed(control)
    ran = cli("deploy", "studio", "--engine", "embedded")
    assert ran.code == 0
    assert ran.out == f"{control.url}/d/studio/\n"
    assert control.seen[0].json == {"engine": {"kind": "embedded"}}
    assert "studio is deployed and asleep" in ran.err
    assert "node classes  2" in ran.err


def test_deploy_sends_everything_that_was_said_with_absolute_paths(
    control: ControlServer, cli: Cli
) -> None:
    deployed(control, number=2, warnings=("custom node 'x' could not be imported",))
    ran = cli(
        "deploy", "studio", "--comfyui-dir", "some/../ComfyUI", "--python", "./venv/bin/python",
        "--gpu", "H100", "--gpus", "2", "--arg=--lowvram", "--arg", "--fast", "--env", "A=b=c",
        "--env", "EMPTY=", "--min-replicas", "1", "--max-replicas", "3", "--idle-timeout", "5",
        "--start-timeout", "10", "--job-timeout", "20", "--queue-timeout", "30",
        "--max-queue", "7", "--max-attempts", "1", "--max-upload-bytes", "9", "--port", "9000",
        "--allow-route", "POST /free", "--allow-route", "/userdata",
    )  # fmt: skip
    assert ran.code == 0
    here = control.seen[0].json["engine"]["comfyui_dir"].removesuffix("/ComfyUI")
    assert here.startswith("/")
    assert control.seen[0].json == {
        "engine": {
            "kind": "comfyui",
            "comfyui_dir": f"{here}/ComfyUI",
            "python": f"{here}/venv/bin/python",
            "args": ["--lowvram", "--fast"],
            "env": {"A": "b=c", "EMPTY": ""},
        },
        "resources": {"gpu": "H100", "gpus": 2},
        "scaling": {"min_replicas": 1, "max_replicas": 3, "idle_timeout_s": 5.0},
        "timeouts": {"start_s": 10.0, "job_s": 20.0, "queue_s": 30.0},
        "limits": {"max_queue": 7, "max_attempts": 1, "max_upload_bytes": 9},
        "port": 9000,
        "allow_routes": ["POST /free", "/userdata"],
    }
    assert "warning: custom node 'x' could not be imported" in ran.err
    assert "revision 2" in ran.err


@pytest.mark.parametrize(
    ("options", "resources"),
    [
        (["--cpu"], {"gpu": None, "gpus": 0}),
        (["--gpu", "L40S"], {"gpu": "L40S", "gpus": 1}),
        (["--gpus", "2"], {"gpu": "any", "gpus": 2}),
    ],
)
def test_resources(
    control: ControlServer, cli: Cli, options: list[str], resources: dict[str, Any]
) -> None:
    deployed(control)
    cli("deploy", "studio", "--comfyui-dir", "x", *options)
    assert control.seen[0].json["resources"] == resources


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--engine", "comfyui"],
        ["--engine", "other"],
        ["--engine", "embedded", "--comfyui-dir", "x"],
        ["--engine", "embedded", "--python", "x"],
        ["--comfyui-dir", "x", "--cpu", "--gpu", "H100"],
        ["--comfyui-dir", "x", "--cpu", "--gpus", "1"],
        ["--engine", "embedded", "--env", "A"],
        ["--engine", "embedded", "--max-replicas", "0"],
        ["--engine", "embedded", "--idle-timeout", "-1"],
        ["--engine", "embedded", "--port", "70000"],
    ],
)
def test_what_contradicts_itself_is_a_usage_error_and_sends_nothing(
    control: ControlServer, cli: Cli, options: list[str]
) -> None:
    assert cli("deploy", "studio", *options).code == ExitCode.USAGE
    assert not control.seen


@pytest.mark.parametrize(
    ("options", "gpus", "is_told"),
    [([], 0, True), (["--cpu"], 0, False), (["--gpu", "any"], 1, False)],
)
def test_a_comfyui_on_the_cpu_is_pointed_out_where_nobody_asked_for_it(
    control: ControlServer, cli: Cli, options: list[str], gpus: int, is_told: bool
) -> None:
    engine = EngineSpec(EngineKind.COMFYUI, comfyui_dir="/x")
    deployed(control, spec=DeploymentSpec(engine, Resources(gpus=gpus)))
    ran = cli("deploy", "studio", "--comfyui-dir", "x", *options)
    assert ("it runs on the CPU" in ran.err) == is_told


def test_an_engine_that_does_not_start_is_refused_with_its_last_lines(
    control: ControlServer, cli: Cli
) -> None:
    tail = {"log_tail": ["Traceback", "ModuleNotFoundError: No module named 'torch'"]}
    control.on("PUT", DEPLOY, refused(422, "deploy_failed", "the engine did not start", tail))
    ran = cli("deploy", "studio", "--comfyui-dir", "x")
    assert ran.code == ExitCode.REFUSED
    assert ran.err.splitlines()[-3:] == [
        "error: the engine did not start",
        "  Traceback",
        "  ModuleNotFoundError: No module named 'torch'",
    ]


def test_a_bare_interpreter_name_is_looked_up_here(control: ControlServer, cli: Cli) -> None:
    deployed(control)
    cli("deploy", "studio", "--comfyui-dir", "x", "--python", "sh")
    assert control.seen[0].json["engine"]["python"].endswith("/sh")
    assert json.dumps(control.seen[0].json).count("/sh") == 1


def test_a_webhook_that_does_not_take_its_test_fails_the_command(
    control: ControlServer, cli: Cli
) -> None:
    said = {"delivered": False, "status": 500, "error": "it answered 500"}
    control.on("POST", "/api/v1/webhooks/wh_1/test", said)
    ran = cli("webhook", "test", "wh_1")
    assert (ran.code, ran.out) == (ExitCode.FAILED, "")
    assert "it answered 500" in ran.err


def test_replay_takes_deliveries_or_all_that_are_dead(control: ControlServer, cli: Cli) -> None:
    control.on("GET", "/api/v1/webhooks/wh_1", answers.webhook())
    dead = {"deliveries": [answers.delivery(), answers.delivery("msg_2")], "next_cursor": None}
    control.on("GET", "/api/v1/webhook-deliveries", dead)
    for name in ("msg_1", "msg_2"):
        control.on("POST", f"/api/v1/webhook-deliveries/{name}/replay", answers.delivery(name))
    assert "2 will be delivered again" in cli("webhook", "replay", "--dead", "wh_1").err
    (asked,) = control.requests("GET", "/api/v1/webhook-deliveries")
    assert asked.query["state"] == ["dead"]
    assert "1 will be delivered again" in cli("webhook", "replay", "msg_2").err
    assert cli("webhook", "replay").code == ExitCode.USAGE


def test_a_webhook_is_removed_only_when_somebody_says_so(control: ControlServer, cli: Cli) -> None:
    control.on("GET", "/api/v1/webhooks/wh_1", answers.webhook())
    control.on("DELETE", "/api/v1/webhooks/wh_1", Scripted(204))
    ran = cli("webhook", "rm", "wh_1")
    assert (ran.code, "--yes" in ran.err) == (ExitCode.USAGE, True)
    assert control.requests("DELETE", "/api/v1/webhooks/wh_1") == []
    assert cli("webhook", "rm", "wh_1", "--yes").code == 0
