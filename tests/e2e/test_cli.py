"""The command line as a user has it: real processes, a real server, the embedded engine."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest

from comfyserve.cli.errors import ExitCode
from comfyserve.cli.private_server import private_server
from comfyserve.testing.command import Cli, Ran

pytestmark = pytest.mark.e2e

COMFYSERVE = [sys.executable, "-m", "comfyserve.cli.main"]


def picture(seconds: float = 0.0, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A workflow with one output, that takes so long."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 32, "height": 16, "batch_size": 1, "color": 255},
            "_meta": {"title": "Blue canvas"},
        },
        "2": {
            "class_type": "TestingSleep",
            "inputs": {
                "seconds": seconds, "steps": 50, "previews": False, "tag": "", "anything": ["1", 0],
            },
        },
        "9": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "blue"}},
        **(changes or {}),
    }  # fmt: skip


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server with the deployment `demo`, for all tests of this module."""
    with private_server() as server:
        deploy = ["deploy", "demo", "--engine=embedded", "--idle-timeout=60", "--url", server.url]
        subprocess.run([*COMFYSERVE, *deploy], check=True, capture_output=True, timeout=60)
        yield server.url


@pytest.fixture
def environment(url: str, tmp_path: Path) -> dict[str, str]:
    """Where the commands find the server, and nothing of the user's own settings."""
    config = tmp_path / "config.toml"
    config.touch()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("COMFYSERVE_")}
    return {**kept, "COMFYSERVE_URL": url, "COMFYSERVE_CONFIG": str(config)}


@pytest.fixture
def cli(environment: dict[str, str], tmp_path: Path) -> Cli:
    """Run a command in an empty directory."""

    def run(*arguments: str) -> Ran:
        done = subprocess.run(
            [*COMFYSERVE, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, Any]], str]:
    """Write a workflow; its file's name."""

    def to_file(workflow: dict[str, Any]) -> str:
        (tmp_path / "workflow.json").write_text(json.dumps(workflow))
        return "workflow.json"

    return to_file


Write = Callable[[dict[str, Any]], str]


def test_a_workflow_runs_from_zero_and_everything_can_be_looked_at(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    plain = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}
    ran = cli(
        "run",
        write(picture(changes={"9": plain})),
        "--set",
        "Blue canvas.width=48",
        "--set",
        "9.filename_prefix=sea",
    )
    assert ran.code == 0, ran.err
    (path,) = ran.out.splitlines()
    assert path.startswith("comfyserve-out/sea_")
    data = (tmp_path / path).read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20]) == 48
    assert re.search(r"^total +\d+ ms", ran.err, re.MULTILINE)
    job_id = ran.err.splitlines()[0].removeprefix("job ")

    shown = cli("job", "show", job_id, "--json").json
    assert shown["state"] == "succeeded"
    parts = shown["receipt"]
    assert parts["total_ms"] == sum(
        parts[f"{part}_ms"] for part in ("queued", "wake", "load", "execute")
    )
    assert job_id in cli("job", "list", "--state", "succeeded", "--deployment", "demo").out
    assert path.removeprefix("comfyserve-out/") in cli("job", "show", job_id).out
    (replica,) = cli("replica", "list", "--json").json["replicas"]
    assert replica["state"] == "ready"
    assert "got prompt" in cli("logs", replica["id"]).out
    assert "got prompt" in cli("logs", "demo", "--tail", "5").out
    assert cli("usage", "--json").json["totals"]["busy_s"] > 0
    assert cli("usage", "--since", "1h").code == 0
    assert cli("status", "demo", "--json").json["status"] == "ready"
    assert replica["id"] in cli("status", "demo").out


def test_the_same_run_twice_gives_two_files(cli: Cli, write: Write, tmp_path: Path) -> None:
    name = write(picture())
    first, second = cli("run", name, "-d", "demo"), cli("run", name, "-d", "demo")
    assert first.out != second.out
    assert len(list((tmp_path / "comfyserve-out").iterdir())) == 2


def test_an_upload_reaches_the_node_that_names_it(cli: Cli, write: Write, tmp_path: Path) -> None:
    drawn = cli("run", write(picture()), "--set", "1.color=65280")
    (tmp_path / drawn.out.strip()).rename(tmp_path / "mine.png")
    workflow = picture()
    workflow["1"] = {"class_type": "LoadImage", "inputs": {"image": "mine.png"}}
    ran = cli("run", write(workflow), "--input", "mine.png")
    assert ran.code == 0, ran.err
    assert "warning" not in ran.err


def test_the_editors_export_and_a_saved_picture_run_as_they_are(cli: Cli, tmp_path: Path) -> None:
    with as_file(files("comfyserve") / "examples") as examples:
        photograph, export = examples / "postcard.jpg", examples / "postcard.json"
        first = cli(
            "run",
            str(export),
            "--input",
            str(photograph),
            "--set",
            "The postcard.filename_prefix=a",
        )
    assert first.code == 0, first.err
    picture_path = next(line for line in first.out.splitlines() if "/temp/" not in line)
    again = cli("run", picture_path, "--set", "The postcard.filename_prefix=b")
    assert again.code == 0, again.err
    assert any("/b_" in line for line in again.out.splitlines())


def test_a_workflow_with_an_error_is_refused_and_says_how_to_mend_it(
    cli: Cli, write: Write
) -> None:
    ran = cli("run", write(picture()), "--set", "1.width=0")
    assert ran.code == ExitCode.REFUSED
    assert 'node 1 "Blue canvas" (EmptyImage)' in ran.err
    assert "width: Value 0 smaller than min of 1" in ran.err
    assert "hint: " in ran.err
    typo = picture(changes={"1": {"class_type": "EmptyImag", "inputs": {}}})
    ran = cli("run", write(typo))
    assert ran.code == ExitCode.REFUSED
    assert "EmptyImag" in ran.err


def test_a_node_that_fails_is_named_with_its_traceback(cli: Cli, write: Write) -> None:
    failing = {"class_type": "TestingFail", "inputs": {"message": "boom", "anything": ["1", 0]}}
    ran = cli("run", write(picture(changes={"2": failing})))
    assert ran.code == ExitCode.FAILED
    assert "failed at node 2 (TestingFail): boom" in ran.err
    assert "raise" in ran.err


def test_waiting_is_bounded_and_the_job_can_be_canceled(cli: Cli, write: Write) -> None:
    ran = cli("run", write(picture(30.0)), "--timeout", "1")
    assert ran.code == ExitCode.TIMED_OUT
    job_id = ran.err.splitlines()[0].removeprefix("job ")
    assert cli("job", "show", job_id, "--json").json["state"] in {"queued", "running"}
    assert cli("job", "cancel", job_id, "--json").json["jobs"][0]["state"] in {
        "canceled",
        "canceling",
    }


def test_ctrl_c_on_a_terminal_asks_and_cancels(
    environment: dict[str, str], write: Write, tmp_path: Path, cli: Cli
) -> None:
    """What a person sees: lines that stay, a question, the end of the job."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMFYSERVE, "run", write(picture(30.0))],
        cwd=tmp_path,
        env={**environment, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        screen = read_until(ours, b"TestingSleep")
        process.send_signal(signal.SIGINT)
        screen += read_until(ours, b"Cancel the job? [y/N]")
        os.write(ours, b"y\n")
        screen += read_until(ours, b"is canceled")
        assert process.wait(10) == ExitCode.INTERRUPTED
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    found = re.search(rb"job ([0-9a-f-]{36})", screen)
    assert found
    assert cli("job", "show", found[1].decode(), "--json").json["state"] == "canceled"


def read_until(terminal: int, wanted: bytes) -> bytes:
    """Read a terminal until it showed `wanted`."""
    screen = b""
    while wanted not in screen:
        readable, _, _ = select.select([terminal], [], [], 30)
        assert readable, f"{wanted!r} was never shown, only {screen!r}"
        screen += os.read(terminal, 4096)
    return screen


def test_a_deployment_from_its_first_day_to_its_last(cli: Cli) -> None:
    deployed = cli("deploy", "brief", "--engine", "embedded")
    assert deployed.code == 0, deployed.err
    assert deployed.out.strip().endswith("/d/brief/")
    again = cli("deploy", "brief", "--engine", "embedded", "--max-replicas", "2", "--json")
    assert again.json["revision"] == 2
    assert again.json["spec"]["scaling"]["max_replicas"] == 2
    assert cli("stop", "brief").err == "brief is stopped\n"
    assert cli("start", "brief").err == "brief is asleep\n"
    assert cli("deployment", "warm", "brief", "--json").json["name"] == "brief"
    assert "brief" in cli("deployment", "list").out
    assert cli("rm", "brief").code == ExitCode.USAGE
    assert cli("rm", "brief", "--yes").code == 0
    gone = cli("status", "brief")
    assert gone.code == ExitCode.NOT_FOUND
    assert "terminated, for good" in gone.err
    assert "demo" in cli("status", "never").err, "what there is instead"


def test_what_cannot_be_deployed_is_refused(cli: Cli, tmp_path: Path) -> None:
    ran = cli("deploy", "x", "--comfyui-dir", ".")
    assert ran.code == ExitCode.REFUSED
    assert f"'{tmp_path}' is not a ComfyUI directory" in ran.err
    assert cli("deploy", "No_Such_Name", "--engine", "embedded").code == ExitCode.REFUSED


def test_a_token_opens_the_door_until_it_is_revoked(cli: Cli, environment: dict[str, str]) -> None:
    secret = cli("token", "create", "ci", "--scope", "read").out.strip()
    assert cli("status", "--token", secret).code == 0
    denied = cli("stop", "demo", "--token", secret)
    assert denied.code == ExitCode.REFUSED
    assert "scope" in denied.err
    (token,) = cli("token", "list", "--json").json["tokens"]
    assert cli("token", "revoke", token["id"], "--yes").code == 0
    assert cli("status", "--token", secret).code == ExitCode.REFUSED


def test_doctor_finds_the_server_that_runs(cli: Cli, url: str) -> None:
    ran = cli("doctor", "--port", url.rpartition(":")[2], "--json")
    found = {finding["name"]: finding for finding in ran.json["findings"]}
    assert found["server"]["level"] == "ok"
    assert "1 deployment," in found["server"]["detail"]
    assert found["port"]["detail"].endswith("is the server's")


@contextmanager
def running_server(
    home: Path, port: int, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """A server that is killed at the end, if it still lives then."""
    command = [*COMFYSERVE, "serve", "--home", str(home), "--port", str(port)]
    with (home.parent / f"server-{port}.log").open("a") as log_file:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=log_file, text=True
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == f"http://127.0.0.1:{port}"
        yield process
    finally:
        process.kill()
        process.communicate()


def log_of(home: Path, port: int) -> str:
    return (home.parent / f"server-{port}.log").read_text()


def test_run_waits_for_a_server_that_was_killed_and_started_again(
    home: Path, free_port: int, environment: dict[str, str], write: Write, tmp_path: Path
) -> None:
    environment["COMFYSERVE_URL"] = f"http://127.0.0.1:{free_port}"
    with running_server(home, free_port, environment):
        deploy = [*COMFYSERVE, "deploy", "demo", "--engine", "embedded"]
        subprocess.run(deploy, env=environment, check=True, capture_output=True)
        running = subprocess.Popen(
            [*COMFYSERVE, "run", write(picture(2.0))],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert running.stderr is not None
        for line in running.stderr:
            if "Blue canvas" in line:
                break
    try:
        with running_server(home, free_port, environment) as server:
            out, err = running.communicate(timeout=40)
            server.send_signal(signal.SIGTERM)
            server.wait(20)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 0, err + log_of(home, free_port)
    assert "the connection was lost; the job is safe" in err
    assert all((tmp_path / path).is_file() for path in out.splitlines())


def test_a_second_server_on_a_home_is_refused_by_name_and_ctrl_c_ends_the_first(
    home: Path, free_port: int, environment: dict[str, str]
) -> None:
    with running_server(home, free_port, environment) as server:
        second = serve_in_vain(home, 0, environment)
        assert second.returncode == ExitCode.REFUSED
        assert f"process id {server.pid}" in second.stderr
        assert second.stdout == ""
        taken = serve_in_vain(home.with_name("home-2"), free_port, environment)
        assert taken.returncode == ExitCode.REFUSED
        assert "choose another with --port" in taken.stderr
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
    assert "Traceback" not in second.stderr + taken.stderr + log_of(home, free_port)


def serve_in_vain(
    home: Path, port: int, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """A server that should not start."""
    return subprocess.run(
        [*COMFYSERVE, "serve", "--home", str(home), "--port", str(port)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_demonstration_shows_the_whole_way_and_leaves_nothing_behind(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [*COMFYSERVE, "demo"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    picture_path, *_ = done.stdout.splitlines()
    assert (tmp_path / picture_path).is_file()
    for promise in (
        "asleep, 0 replicas",
        "✔ waking rp_",
        "The postcard",
        "accepted → queued",
        "asleep after 2",
        "0 replicas: reading woke nothing",
    ):
        assert promise in done.stderr, promise
    nodes = re.search(r"A workflow of (\d+) nodes on a photograph", done.stderr)
    assert nodes
    assert int(nodes[1]) >= 8
    assert done.stderr.count("the same ") == len(done.stdout.splitlines())


def test_the_demonstration_can_be_kept_and_its_calls_work(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    process = subprocess.Popen(
        [*COMFYSERVE, "demo", "--keep"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        calls = {}
        for line in process.stderr:
            if found := re.match(r"  (\w+) +(curl -s .*)", line):
                calls[found[1]] = found[2]
            if line.startswith("Ctrl-C"):
                break
        assert list(calls) == ["submit", "history", "view", "queue", "upload"]
        answers = {name: call_of(call, tmp_path) for name, call in calls.items()}
        assert "prompt_id" in answers["submit"]
        assert '"status_str":"success"' in answers["history"].replace(" ", "")
        assert (tmp_path / "again.png").read_bytes().startswith(b"\x89PNG")
        assert "queue_running" in answers["queue"]
        assert json.loads(answers["upload"])["type"] == "input"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=40)
    assert process.returncode == 0


def call_of(command: str, directory: Path) -> str:
    """What a line for a shell prints."""
    done = subprocess.run(
        command, shell=True, cwd=directory, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout
