"""Builds as a user meets them: the command line, the API, a hub, a server that is killed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.fake_hub import Hub, serving_hub
from tests.e2e.ports import two_free_ports
from tests.e2e.server_process import ServerProcess, serving, wait_until

from comfyserve.cli.main import run_command

_DATA = os.urandom(300_000)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serving_hub(_DATA) as hub:
        yield hub


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> Iterator[ServerProcess]:
    """One server for all tests here; its hub is ours."""
    port, _ = two_free_ports()
    home = tmp_path_factory.mktemp("builds") / "home"
    with serving(home, port, HF_ENDPOINT=hub.url, COMFYSERVE_BUILD_STEP_TIMEOUT_S="60") as server:
        yield server


def _command(server: ServerProcess, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "comfyserve.cli.main", *words],
        cwd=cwd,
        env={**os.environ, "COMFYSERVE_URL": server.url},
        capture_output=True,
        text=True,
        timeout=120,
    )


def _image(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"steps": list(steps)}


def _run(command: str) -> dict[str, Any]:
    return {"kind": "command", "command": command}


def _ended(server: ServerProcess, build_id: str) -> Any:
    def has_ended() -> bool:
        return server.get(f"/api/v1/builds/{build_id}").json["state"] not in {"queued", "running"}

    wait_until(has_ended, 60.0, f"build {build_id} ends")
    return server.get(f"/api/v1/builds/{build_id}").json


def test_an_image_in_code_is_built_shown_and_reused(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("from here")
    (tmp_path / "img.py").write_text(
        "from comfyserve import Image\n"
        "image = Image().add_local_path('notes').add_commands(['cat notes/a.txt', 'echo done'])\n"
    )
    first = _command(server, tmp_path, "build", "img.py:image")
    assert first.returncode == 0, first.stderr
    digest = first.stdout.strip()
    assert len(digest) == 64
    assert "==> step 1/3: copy local files to notes\n" in first.stderr
    assert "from here\n" in first.stderr
    assert f"image {digest[:12]} is built in" in first.stderr
    again = _command(server, tmp_path, "build", "img.py:image")
    assert "nothing to do: it is built already" in again.stderr
    listed = _command(server, tmp_path, "build", "list")
    assert digest[:12] in listed.stdout
    fresh = _command(server, tmp_path, "build", "--no-cache", "--quiet", "img.py:image")
    assert fresh.stdout.strip() == digest
    assert "==> step" not in fresh.stderr


def test_a_failed_build_says_why_and_exits_with_1(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(
        '{"steps": [{"kind": "command", "command": "echo hm; exit 3"}]}'
    )
    failed = _command(server, tmp_path, "build", "spec.json")
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "the image was not built: 'echo hm; exit 3' failed with exit code 3" in failed.stderr
    (build, *_) = server.get("/api/v1/builds").json["builds"]
    assert (build["state"], build["log_tail"], build["code"]) == ("failed", ["hm"], "build_failed")
    shown = _command(server, tmp_path, "build", "show", build["id"])
    assert "failed with exit code 3" in shown.stdout
    logged = _command(server, tmp_path, "build", "logs", "--tail", "1", build["id"])
    assert logged.stdout == "hm\n"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["build", "nothing.py:image"], 3, "there is no file 'nothing.py'"),
        (["build", "nothing.json"], 3, "there is no file 'nothing.json'"),
        (["build", "bad.json"], 2, "unknown kind 'magic'"),
        (
            ["build", "no_image.py:image"],
            2,
            "no_image.py:image is neither an Image nor has one, but int",
        ),
        (["build", "docker_image.py:image"], 4, "which needs a container engine"),
        (["build", "show", "bd_nothing"], 3, "there is no build 'bd_nothing'"),
        (["build", "logs", "bd_nothing"], 3, "there is no build 'bd_nothing'"),
        (["build", "prune"], 2, "confirm with --yes"),
    ],
)
def test_what_cannot_be_built_is_refused(
    server: ServerProcess,
    tmp_path: Path,
    words: list[str],
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.json").write_text('{"steps": [{"kind": "magic"}]}')
    (tmp_path / "no_image.py").write_text("image = 3\n")
    (tmp_path / "docker_image.py").write_text(
        "from comfyserve import Image\nimage = Image(base_image='debian:12')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMFYSERVE_URL", server.url)
    assert run_command(words) == code
    assert says in " ".join(capsys.readouterr().err.split())


def test_two_identical_builds_at_once_are_one(server: ServerProcess, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    image = _image(_run(f"echo once >> {tmp_path}/trace; cat {tmp_path}/go"))
    one = server.post("/api/v1/builds", image)
    two = server.post("/api/v1/builds", image)
    assert (one.status, two.status) == (201, 201)
    assert one.json["id"] == two.json["id"]
    (tmp_path / "go").write_text("")
    assert _ended(server, one.json["id"])["state"] == "succeeded"
    assert (tmp_path / "trace").read_text() == "once\n"


def test_a_build_can_be_canceled_and_leaves_no_process(
    server: ServerProcess, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "started")
    asked = server.post(
        "/api/v1/builds", _image(_run(f"echo $$ > {tmp_path}/started; exec sleep 600"))
    )
    pid = int((tmp_path / "started").read_text())
    canceled = server.post(f"/api/v1/builds/{asked.json['id']}/cancel").json
    assert canceled["state"] == "canceled"
    assert not _lives(pid)
    assert server.post("/api/v1/builds:prune").status == 200


def test_events_tell_steps_log_and_end(server: ServerProcess) -> None:
    asked = server.post("/api/v1/builds", _image(_run("echo hello events")))
    story = server.get(f"/api/v1/builds/{asked.json['id']}/events").body.decode()
    kinds = [
        line.removeprefix("event: ") for line in story.splitlines() if line.startswith("event")
    ]
    assert kinds[0] == "build"
    assert kinds[-1] == "end"
    assert '"lines":' in story
    assert "hello events" in story
    followed = server.get(f"/api/v1/builds/{asked.json['id']}/logs?follow=true&tail=1")
    assert followed.body == b"hello events\n"


def test_a_model_of_a_hub_is_fetched_by_commit_and_checked(server: ServerProcess, hub: Hub) -> None:
    model = {"source": "hf://owner/repo/model.safetensors", "folder": "checkpoints"}
    asked = server.post("/api/v1/builds", _image({"kind": "models", "files": [model]}))
    done = _ended(server, asked.json["id"])
    assert done["state"] == "succeeded", done
    assert done["lock"]["model checkpoints/model.safetensors"].endswith(f"@sha256:{hub.sha256}")
    assert (server.home / "models" / "contents" / hub.sha256).read_bytes() == _DATA
    gone = {**model, "source": "hf://owner/repo/other.safetensors"}
    asked = server.post("/api/v1/builds", _image({"kind": "models", "files": [gone]}))
    failed = _ended(server, asked.json["id"])
    assert failed["state"] == "failed"
    assert "'hf://owner/repo/other.safetensors' cannot be fetched: " in failed["message"]


@pytest.mark.slow
def test_a_gated_model_needs_its_secret(server: ServerProcess, hub: Hub) -> None:
    hub.token = "hf_secret_value"
    try:
        model = {
            "source": "hf://owner/repo@main/model.safetensors",
            "folder": "vae",
            "secret": "HF_KEY",
        }
        image = _image({"kind": "models", "files": [model]})
        refused = server.post("/api/v1/builds", image)
        assert (refused.status, refused.json["error"]["code"]) == (400, "unknown_secret")
        stored = server.request("PUT", "/api/v1/secrets/HF_KEY", {"value": hub.token})
        assert stored.status in {200, 201, 204}, stored.body
        asked = server.post("/api/v1/builds", image)
        assert _ended(server, asked.json["id"])["state"] == "succeeded"
        log = server.get(f"/api/v1/builds/{asked.json['id']}/logs").body.decode()
        assert hub.token not in log
        assert any(key == f"Bearer {hub.token}" for _, _, key in hub.asked)
    finally:
        hub.token = ""


def test_a_private_address_is_not_reached(server: ServerProcess, hub: Hub) -> None:
    model = {"source": f"{hub.url}/x.safetensors", "folder": "vae"}
    asked = server.post("/api/v1/builds", _image({"kind": "models", "files": [model]}))
    failed = _ended(server, asked.json["id"])
    assert failed["state"] == "failed"
    assert "not a public address" in failed["message"]


@pytest.mark.slow
def test_a_server_that_is_killed_leaves_nothing_half_done(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "started")
    first = _run(f"echo first >> {tmp_path}/trace")
    blocks = _run(f"echo $$ > {tmp_path}/started; exec sleep 600")
    port, _ = two_free_ports()
    with serving(tmp_path / "home", port) as server:
        asked = server.post("/api/v1/builds", _image(first, blocks))
        pid = int((tmp_path / "started").read_text())
        server.kill()
        assert _lives(pid)
        server.start()
        wait_until(lambda: not _lives(pid), 30.0, "the step of the killed server is ended")
        lost = server.get(f"/api/v1/builds/{asked.json['id']}").json
        assert (lost["state"], lost["code"]) == ("failed", "server_stopped")
        assert not (server.home / "builds" / "trees" / asked.json["id"]).exists()
        again = server.post("/api/v1/builds", _image(first, _run("true")))
        assert _ended(server, again.json["id"])["state"] == "succeeded"
        assert (tmp_path / "trace").read_text() == "first\n"


def test_prune_removes_what_no_deployment_needs(server: ServerProcess) -> None:
    asked = server.post("/api/v1/builds", _image(_run("head -c 3000000 /dev/zero > large")))
    _ended(server, asked.json["id"])
    pruned = server.post("/api/v1/builds:prune?models=true").json
    assert pruned["images"] >= 1
    assert pruned["freed_bytes"] > 3_000_000
    assert list((server.home / "builds" / "trees").iterdir()) == []
    assert list((server.home / "builds" / "contents").glob("*/*")) == []


def _lives(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
