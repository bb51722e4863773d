"""Which server a client means."""

import json
import os
import time
from pathlib import Path

import pytest

from comfyserve.domain.errors import InvalidInput
from comfyserve.sdk.local_server import find_local
from comfyserve.sdk.servers import Server, find_server

STUDIO = '[profile.studio]\nurl = "https://gpu.example.com/"\ntoken = "cs_studio"\n'


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment with a home of its own and a file with one profile."""
    config = tmp_path / "config.toml"
    config.write_text(STUDIO)
    return {"COMFYSERVE_CONFIG": str(config), "COMFYSERVE_HOME": str(tmp_path / "home")}


def lock(home: Path, **changes: object) -> None:
    home.mkdir(exist_ok=True)
    held = {
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "url": "http://127.0.0.1:4",
        "since": 1.0,
    }
    (home / "lock").write_text(json.dumps(held | changes))


def test_nothing_configured_and_nothing_running_is_no_server(env: dict[str, str]) -> None:
    assert find_server(env=env) is None


def test_what_is_given_goes_before_the_environment(env: dict[str, str]) -> None:
    env["COMFYSERVE_URL"], env["COMFYSERVE_TOKEN"] = "http://one:1/", "cs_one"
    assert find_server(env=env) == Server("http://one:1", "cs_one")
    assert find_server("http://two:2", "cs_two", env=env) == Server("http://two:2", "cs_two")


def test_a_profile_is_an_address_with_its_token(env: dict[str, str]) -> None:
    env["COMFYSERVE_PROFILE"] = "studio"
    assert find_server(env=env) == Server("https://gpu.example.com", "cs_studio")
    env["COMFYSERVE_TOKEN"] = "cs_other"
    assert find_server(env=env) == Server("https://gpu.example.com", "cs_other")


def test_a_profiles_token_never_goes_to_another_address(env: dict[str, str]) -> None:
    env["COMFYSERVE_PROFILE"], env["COMFYSERVE_URL"] = "studio", "http://elsewhere:1"
    assert find_server(env=env) == Server("http://elsewhere:1", "")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("studi", STUDIO, "there is: studio"),
        ("studio", "", "there is: none"),
        ("studio", "[profile]\nstudio = 3\n", "there is: studio"),
        ("studio", "[profile.studio]\ntoken = 'x'\n", "needs a url"),
    ],
)
def test_a_profile_that_cannot_be_used_says_what_to_write(
    env: dict[str, str], name: str, text: str, says: str
) -> None:
    Path(env["COMFYSERVE_CONFIG"]).write_text(text)
    env["COMFYSERVE_PROFILE"] = name
    with pytest.raises(InvalidInput, match=says):
        find_server(env=env)


def test_the_server_of_the_home_is_found_by_its_lock(env: dict[str, str], tmp_path: Path) -> None:
    lock(tmp_path / "home")
    env["COMFYSERVE_TOKEN"] = "cs_mine"
    assert find_server(env=env) == Server("http://127.0.0.1:4", "cs_mine")


@pytest.mark.parametrize(
    "change", [{"pid": 2**22 + 1}, {"host": "elsewhere"}, {"pid": "x"}, {"since": None}]
)
def test_a_lock_that_nobody_here_holds_is_no_server(
    tmp_path: Path, change: dict[str, object]
) -> None:
    lock(tmp_path, **change)
    assert find_local(tmp_path) is None


def test_a_server_that_does_not_listen_yet_is_not_taken(
    env: dict[str, str], tmp_path: Path
) -> None:
    lock(tmp_path / "home", url="", since=time.time())
    assert find_server(env=env) is None
