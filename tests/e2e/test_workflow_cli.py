"""`workflow` and `catalog` with a server, and the guide's commands as they stand there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from comfyserve.cli.client import Client
from comfyserve.cli.errors import ExitCode
from comfyserve.cli.private_server import private_server
from comfyserve.sdk.transport import Transport
from comfyserve.testing.command import Cli, Ran

pytestmark = pytest.mark.e2e

COMFYSERVE = [sys.executable, "-m", "comfyserve.cli.main"]
EXAMPLES = files("comfyserve") / "examples"
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "workflows.md"
NAMES = ("postcard.json", "postcard_api.json")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server with the deployment `demo`, which has the photograph of the postcard."""
    with private_server() as server:
        deploy = ["deploy", "demo", "--engine=embedded", "--url", server.url]
        subprocess.run([*COMFYSERVE, *deploy], check=True, capture_output=True, timeout=60)
        with as_file(EXAMPLES / "postcard.jpg") as photograph:
            Client(Transport(server.url)).upload("demo", photograph)
        yield server.url


@pytest.fixture
def cli(url: str, tmp_path: Path) -> Cli:
    """Run a command in a directory that holds the postcard in both formats."""
    (tmp_path / "config.toml").touch()
    for name in NAMES:
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    kept = {key: value for key, value in os.environ.items() if not key.startswith("COMFYSERVE_")}
    config = str(tmp_path / "config.toml")
    environment = {**kept, "COMFYSERVE_URL": url, "COMFYSERVE_CONFIG": config}

    def run(*arguments: str) -> Ran:
        command = arguments if arguments[0] == "curl" else (*COMFYSERVE, *arguments)
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


def test_a_workflow_is_judged_by_the_deployment(cli: Cli, url: str) -> None:
    for name in NAMES:
        ran = cli("workflow", "validate", name)
        assert (ran.code, ran.out) == (ExitCode.OK, "it would run: 2 outputs (node 16, 17)\n")
        assert f"deployment 'demo' at {url}" in ran.err
    needs = cli("workflow", "requirements", "postcard.json", "-d", "demo", "--json").json
    assert [(file["name"], file["present"]) for file in needs["files"]] == [("postcard.jpg", True)]


def test_the_command_line_says_what_the_server_says(cli: Cli, url: str) -> None:
    inspected = cli("workflow", "inspect", "postcard.json", "--json").json
    path = "/api/v1/deployments/demo/workflows:check"
    asked = subprocess.run(
        [sys.executable, "-c", _POST, url + path], input=(EXAMPLES / NAMES[0]).read_bytes(),
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert inspected == json.loads(asked.stdout)


_POST = (
    "import sys, urllib.request as r; "
    "print(r.urlopen(r.Request(sys.argv[1], sys.stdin.buffer.read())).read().decode())"
)


def test_an_unknown_deployment_is_not_found(cli: Cli) -> None:
    for arguments in (
        ("workflow", "validate", "postcard.json", "-d", "nobody"),
        ("catalog", "export", "nobody"),
    ):
        ran = cli(*arguments)
        assert ran.code == ExitCode.NOT_FOUND
        assert "there is no deployment 'nobody'; there is: demo" in ran.err


def test_run_takes_the_editors_export(cli: Cli, tmp_path: Path) -> None:
    ran = cli("run", "postcard.json", "--out", "out")
    assert ran.code == ExitCode.OK, ran.err
    saved = [tmp_path / line for line in ran.out.splitlines()]
    assert len(saved) == 2
    card = next(path for path in saved if "postcard" in path.name)
    # What was saved carries its workflow, and is taken back.
    ran = cli("workflow", "convert", str(card))
    assert ran.json == json.loads((EXAMPLES / "postcard_api.json").read_text())


def test_the_guides_commands_work_as_they_stand_there(cli: Cli, url: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) > 7
    for line in commands:
        program, *arguments = shlex.split(line.replace("http://127.0.0.1:8000", url))
        if program == "curl" and not shutil.which("curl"):
            continue
        ran = cli(*arguments) if program == "comfyserve" else cli(program, *arguments)
        assert ran.code == ExitCode.OK, f"{line}\n{ran.err}"
        assert ran.out, line
    assert (tmp_path / "graph.svg").read_text().startswith("<svg")
