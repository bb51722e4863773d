"""Secrets, as a user has them: set without being seen, in the engine's environment, in no log."""

import io
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.e2e.server_process import ServerProcess, serving, wait_until
from tests.gateway.v2_door import unused_port

from comfyserve.cli.errors import ExitCode
from comfyserve.cli.main import run_command
from comfyserve.testing.command import Cli, Ran

pytestmark = pytest.mark.e2e

VALUE, CHANGED = "hf_q9-Zx/first+value", "hf_another value {port}"
# An engine that tells what it should not, in pieces.
TELL_TALE = """
import os, runpy, sys
token = os.environ["HF_TOKEN"]
sys.stdout.write("the token is " + token[:5]); sys.stdout.flush()
sys.stdout.write(token[5:] + ", I say\\n"); sys.stdout.flush()
if "broken" in os.environ: sys.exit("cannot log in as " + token)
runpy.run_module("comfyserve.engine", run_name="__main__")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the secret HF_TOKEN and a deployment that tells it."""
    home = tmp_path_factory.mktemp("server") / "home"
    with serving(home, unused_port()) as server:
        server.request("PUT", "/api/v1/secrets/HF_TOKEN?expect=new", {"value": VALUE})
        yield server


@pytest.fixture(scope="module")
def tell_tale(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Something that looks like a ComfyUI."""
    directory = tmp_path_factory.mktemp("tell-tale")
    (directory / "main.py").write_text(TELL_TALE)
    (directory / "nodes.py").touch()
    (directory / "comfy").mkdir()
    return directory


@pytest.fixture
def cli(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Cli:
    """Run a command against the server."""
    monkeypatch.setenv("COMFYSERVE_URL", server.url)

    def run(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        code = run_command(arguments)
        captured = capsys.readouterr()
        return Ran(int(code), captured.out, captured.err)

    return run


def deploy(cli: Cli, directory: Path, *more: str) -> Ran:
    where = ("--comfyui-dir", str(directory), "--python", sys.executable, "--cpu")
    return cli("deploy", "teller", *where, "--secret", "HF_TOKEN", *more)


def environment_of(server: ServerProcess) -> dict[str, str]:
    """What the engine of the one ready replica was started with."""
    wait_until(
        lambda: [item for item in server.replicas("teller") if item["state"] == "ready"],
        30,
        "a replica is ready",
    )
    pid = next(item["pid"] for item in server.replicas("teller") if item["state"] == "ready")
    pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(pair.decode().split("=", 1) for pair in pairs if pair)


def test_a_secret_reaches_the_engine_and_no_log(
    cli: Cli, server: ServerProcess, tell_tale: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed = deploy(cli, tell_tale)
    assert deployed.code == 0, deployed.err
    server.post("/api/v1/deployments/teller/warm")
    assert environment_of(server)["HF_TOKEN"] == VALUE
    log = cli("logs", "teller").out
    assert "the token is ***, I say" in log
    assert VALUE not in log

    # A changed value takes effect at the next start, and the log of the old one stays masked.
    monkeypatch.setenv("NEW", CHANGED)
    changed = cli("secret", "modify", "HF_TOKEN", "--from-env", "NEW")
    assert changed.code == 0, changed.err
    assert environment_of(server)["HF_TOKEN"] == VALUE
    replica = server.replicas("teller")[0]["id"]
    with ThreadPoolExecutor() as pool:
        follower = pool.submit(server.get, "/api/v1/deployments/teller/logs?follow=true")
        server.post(f"/api/v1/replicas/{replica}/stop")
        followed = follower.result(timeout=60).body.decode()
    assert "the token is ***, I say" in followed
    assert VALUE not in followed
    wait_until(lambda: not server.replicas("teller"), 30, "it stops")
    server.post("/api/v1/deployments/teller/warm")
    assert environment_of(server)["HF_TOKEN"] == CHANGED, "as it is, whatever it looks like"
    both = server.get(f"/api/v1/replicas/{replica}/logs").body.decode()
    both += cli("logs", "teller").out
    assert both.count("the token is ***, I say") == 2
    written = [path.read_bytes() for path in server.home.rglob("*.json")]
    assert not any(CHANGED.encode() in data for data in written)


def test_a_failed_start_shows_the_end_of_its_log_masked(
    cli: Cli, server: ServerProcess, tell_tale: Path
) -> None:
    refused = deploy(cli, tell_tale, "--env", "broken=1")
    assert refused.code == ExitCode.REFUSED
    assert "cannot log in as ***" in refused.err
    assert CHANGED not in refused.err + server.log


def test_what_is_used_cannot_be_deleted_and_what_is_not_there_cannot_be_used(
    cli: Cli, server: ServerProcess, tell_tale: Path
) -> None:
    listed = cli("secret", "list", "--json").json["secrets"]
    assert [(item["name"], item["deployments"]) for item in listed] == [("HF_TOKEN", ["teller"])]
    assert set(listed[0]) == {"name", "created_at", "updated_at", "deployments"}
    kept = cli("secret", "delete", "HF_TOKEN", "--yes")
    assert kept.code == ExitCode.REFUSED
    assert "used by teller" in kept.err
    unknown = deploy(cli, tell_tale, "--secret", "CIVITAI_KEY")
    assert unknown.code == ExitCode.REFUSED
    assert "no secret 'CIVITAI_KEY'; there is: HF_TOKEN" in unknown.err


def test_bad_values_are_refused_before_they_travel(
    cli: Cli, server: ServerProcess, tmp_path: Path
) -> None:
    (tmp_path / "key.pem").write_bytes(b"-----BEGIN-----\r\nabc\r\n")
    binary = tmp_path / "key.der"
    binary.write_bytes(b"\xff\xfe\x00")
    for arguments, code, said in (
        (("create", "HF_TOKEN", "--value", "again"), ExitCode.REFUSED, "already"),
        (("modify", "NOPE", "--value", "x"), ExitCode.NOT_FOUND, "no secret 'NOPE'"),
        (("create", "A-B", "--value", "x"), ExitCode.USAGE, "environment variable"),
        (("create", "EMPTY"), ExitCode.USAGE, "empty"),
        (("create", "A", "--value", "x", "--from-env", "Y"), ExitCode.USAGE, "one of"),
        (("create", "A", "--from-env", "NOT_SET"), ExitCode.USAGE, "no variable"),
        (("create", "A", "--from-file", str(binary)), ExitCode.USAGE, "text in UTF-8"),
        (("create", "A", "--from-file", str(tmp_path / "none")), ExitCode.FAILED, "none"),
        (("delete", "NOPE", "--yes"), ExitCode.NOT_FOUND, "no secret"),
    ):
        ran = cli("secret", *arguments)
        assert ran.code == code, (arguments, ran.err)
        assert said in ran.err, (arguments, ran.err)
    made = cli("secret", "create", "PIPED", stdin=f"{VALUE}\n")
    assert made.code == 0, made.err
    assert VALUE not in made.out + made.err
    assert cli("secret", "delete", "PIPED", "--yes").code == 0
    made = cli("secret", "create", "PEM", "--from-file", str(tmp_path / "key.pem"))
    assert made.code == 0, made.err
    assert cli("secret", "delete", "PEM", "--yes").code == 0


def test_only_admins_touch_secrets(cli: Cli, server: ServerProcess) -> None:
    token = cli("token", "create", "ci", "--scope", "run").out.strip()
    as_ci = {"Authorization": f"Bearer {token}"}
    for method, path in (("GET", ""), ("PUT", "/X"), ("DELETE", "/X")):
        body = {"value": "v"} if method == "PUT" else None
        reply = server.request(method, f"/api/v1/secrets{path}", body, headers=as_ci)
        assert (reply.status, reply.json["error"]["code"]) == (403, "missing_scope")
    wrong = server.request("PUT", "/api/v1/secrets/X", {"value": 12345678, "expect": "new"})
    assert wrong.status == 400
    assert b"12345678" not in wrong.body
