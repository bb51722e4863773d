"""A server in the background: started by whoever comes first, found by the others, stopped."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

CONNECT = "from comfyserve.sdk.client import connect; print(connect().url)"


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A user with an empty home; no server of theirs is left behind."""
    config = tmp_path / "config.toml"
    config.write_text("port = 0\n")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("COMFYSERVE_")}
    env = {**kept, "COMFYSERVE_CONFIG": str(config), "COMFYSERVE_HOME": str(tmp_path / "home")}
    yield env
    command(env, "server", "stop")


def start(env: Mapping[str, str], code: str = CONNECT) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "comfyserve.cli.main", *arguments]
    return subprocess.run(argv, env=env, capture_output=True, text=True)


def test_two_that_start_at_once_end_with_one_server_which_outlives_them(
    env: dict[str, str], tmp_path: Path
) -> None:
    both = [start(env), start(env)]
    said = [process.communicate(timeout=55) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    urls = {out.strip() for out, _ in said}
    assert len(urls) == 1
    talk = "".join(err for _, err in said)
    assert talk.count("started in the background") == 1
    assert str(tmp_path / "home" / "server.log") in talk
    again = start(env)
    assert again.communicate(timeout=55) == (f"{urls.pop()}\n", "")
    shown = json.loads(command(env, "server", "status", "--json").stdout)
    assert shown["state"] == "ready"
    assert command(env, "status").returncode == 0, "the command line finds it too"
    stopped = command(env, "server", "stop")
    assert stopped.returncode == 0
    gone = command(env, "server", "status")
    assert gone.returncode == 3
    assert "no server runs on the home" in gone.stderr


def test_a_server_that_cannot_start_says_why(env: dict[str, str]) -> None:
    env["COMFYSERVE_DB"] = "nonsense://"
    process = start(env)
    _, err = process.communicate(timeout=55)
    assert process.returncode == 1
    assert "did not start; its log is" in err


def test_a_port_that_is_taken_is_no_hindrance(env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        env["COMFYSERVE_PORT"] = str(other.getsockname()[1])
        out, err = start(env).communicate(timeout=55)
        assert out.startswith("http://127.0.0.1:"), err
        assert not out.strip().endswith(f":{env['COMFYSERVE_PORT']}")
