"""`doctor`: each check on a machine where it is right and on one where it is not."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyserve.cli import checks
from comfyserve.cli.checks import Finding, Level
from comfyserve.cli.client import Client
from comfyserve.cli.comfyui_checks import check_comfyui
from comfyserve.cli.errors import ExitCode
from comfyserve.runtime.gpus import Gpu, Inventory
from comfyserve.sdk.transport import Transport
from comfyserve.store.home import HomeLock
from comfyserve.testing import control_answers as answers
from comfyserve.testing.command import Cli
from comfyserve.testing.control_server import ControlServer, refused

H100 = Gpu(0, "GPU-1", "H100", "NVIDIA H100 80GB HBM3", 80 * 1024**3)


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    """What looks like a ComfyUI installation."""
    directory = tmp_path / "ComfyUI"
    (directory / "comfy").mkdir(parents=True)
    for name in ("main.py", "nodes.py"):
        (directory / name).touch()
    (directory / "requirements.txt").write_text(
        "pytest>=1  # here\n\n# comment\nno-such-thing==2\n"
    )
    return directory


def python_with_torch(directory: Path, source: str) -> str:
    """An interpreter that imports `source` as torch."""
    modules = directory / "modules"
    modules.mkdir()
    (modules / "torch.py").write_text(source)
    wrapper = directory / "python-with-torch"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={modules} exec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    return str(wrapper)


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_python_is_new_enough_or_not() -> None:
    assert checks.check_python((3, 11, 7)).level is Level.OK
    old = checks.check_python((3, 10, 1))
    assert (old.level, old.mend) == (Level.PROBLEM, "use Python 3.11 or newer")


def test_gpus_are_listed_and_none_is_no_problem() -> None:
    assert checks.check_gpus(Inventory((H100,))) == Finding("gpu", Level.OK, "H100 (80.0 GiB)")
    none = checks.check_gpus(Inventory(problem="Driver Not Loaded"))
    assert none.level is Level.WARNING
    assert "Driver Not Loaded" in none.detail
    assert "nvidia-smi" in none.mend
    some = checks.check_gpus(Inventory((H100,), "GPU 1: GPU is lost"))
    assert some.level is Level.WARNING
    assert "GPU is lost" in some.detail


@pytest.mark.parametrize(
    ("confine", "script", "level"),
    [
        ("auto", None, Level.WARNING),
        ("on", None, Level.PROBLEM),
        ("off", None, Level.WARNING),
        ("on", "exit 0", Level.OK),
        ("auto", "echo 'No permissions to create a new namespace' >&2; exit 1", Level.WARNING),
        ("on", "exit 1", Level.PROBLEM),
    ],
)
def test_bubblewrap_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confine: str, script: str | None, level: Level
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if script is not None:
        program = tmp_path / "bwrap"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    found = checks.check_bubblewrap(confine)
    assert found.level is level
    assert bool(found.mend) == (level is not Level.OK)
    if script is not None and "namespace" in script:
        assert "No permissions" in found.detail


def test_a_home_is_made_when_needed(home: Path) -> None:
    found = checks.check_home(home)
    assert (found.level, found.detail) == (Level.OK, f"{home}, made when needed")
    assert not home.exists(), "looking changes nothing"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_is_a_problem(home: Path) -> None:
    home.mkdir(mode=0o500)
    assert checks.check_home(home).level is Level.PROBLEM


def test_a_home_below_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = checks.check_home(tmp_path / "file" / "home")
    assert found.level is Level.PROBLEM
    assert "--home" in found.mend


async def test_a_home_that_is_held_says_by_whom_and_one_that_was_says_nothing(home: Path) -> None:
    async with HomeLock(home, url="http://127.0.0.1:8000", now=0.0):
        found = await asyncio.to_thread(checks.check_home, home)
        assert found.detail == f"{home}, held by process {os.getpid()} at http://127.0.0.1:8000"
    assert (await asyncio.to_thread(checks.check_home, home)).detail == str(home)


def test_the_disk_is_measured_where_the_home_will_be(home: Path) -> None:
    found = checks.check_disk(home)
    assert found.name == "disk"
    assert "free for" in found.detail


def test_a_server_is_told_from_none_and_from_a_broken_one(
    control: ControlServer, free_port: int
) -> None:
    nobody, _ = checks.check_server(Client(Transport(f"http://127.0.0.1:{free_port}")))
    assert nobody.level is Level.WARNING
    assert "`comfyserve serve`" in nobody.mend
    control.on("GET", "/api/v1/health/ready", refused(500, "internal_error", "a defect"))
    broken, _ = checks.check_server(Client(Transport(control.url)))
    assert (broken.level, broken.detail) == (Level.PROBLEM, "a defect")


def test_a_server_of_another_version_is_a_warning(control: ControlServer) -> None:
    control.on("GET", "/api/v1/health/ready", {**answers.ready(), "version": "99.0"})
    found, ready = checks.check_server(Client(Transport(control.url)))
    assert found.level is Level.WARNING
    assert ready is not None
    assert ready.version == "99.0"


def test_a_port_is_free_ours_or_taken(free_port: int) -> None:
    assert checks.check_port("127.0.0.1", free_port, is_ours=False).level is Level.OK
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port))
        listener.listen()
        assert checks.check_port("127.0.0.1", free_port, is_ours=True).level is Level.OK
        taken = checks.check_port("127.0.0.1", free_port, is_ours=False)
    assert taken.level is Level.PROBLEM
    assert "in use by another program" in taken.detail


def test_a_directory_that_is_no_comfyui_ends_the_look(tmp_path: Path) -> None:
    (found,) = check_comfyui(tmp_path, None, gpus=0)
    assert found.level is Level.PROBLEM
    assert "is not a ComfyUI directory" in found.detail


def test_what_its_python_lacks_is_named_with_the_command_that_installs_it(
    comfyui: Path, tmp_path: Path
) -> None:
    python = python_with_torch(tmp_path, "raise ImportError('no torch here')")
    found = by_name(check_comfyui(comfyui, python, gpus=0))
    assert found["comfyui"].level is Level.OK
    assert found["comfyui python"].level is Level.OK
    assert found["torch"].detail == "cannot be imported: ImportError: no torch here"
    assert found["requirements"].detail == "missing: no-such-thing"
    for name in ("torch", "requirements"):
        assert found[name].level is Level.PROBLEM
        assert found[name].mend.endswith(f"-m pip install -r {comfyui / 'requirements.txt'}")


TORCH = """
__version__ = "2.9"
class cuda:
    is_available = staticmethod(lambda: {count} > 0)
    device_count = staticmethod(lambda: {count})
"""


@pytest.mark.parametrize(
    ("count", "gpus", "level"),
    [(1, 1, Level.OK), (0, 0, Level.OK), (0, 1, Level.PROBLEM)],
)
def test_a_torch_that_does_not_see_the_gpu_is_a_problem_where_there_is_one(
    comfyui: Path, tmp_path: Path, count: int, gpus: int, level: Level
) -> None:
    (comfyui / "requirements.txt").write_text("pytest\n")
    python = python_with_torch(tmp_path, TORCH.format(count=count))
    found = by_name(check_comfyui(comfyui, python, gpus=gpus))
    assert found["torch"].level is level
    assert found["requirements"].level is Level.OK


def test_an_interpreter_that_does_not_run_is_a_problem(comfyui: Path, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    found = by_name(check_comfyui(comfyui, str(broken), gpus=0))
    assert found["comfyui python"].level is Level.PROBLEM
    assert "--python" in found["comfyui python"].mend


def test_the_command_shows_all_and_fails_for_a_problem(
    control: ControlServer, cli: Cli, home: Path, tmp_path: Path
) -> None:
    control.on("GET", "/api/v1/health/ready", answers.ready())
    port = control.url.rpartition(":")[2]
    healthy = cli("doctor", "--home", str(home), "--port", port)
    names = [line.split()[1] for line in healthy.out.splitlines() if not line.startswith("  ")]
    assert names == ["python", "gpu", "bubblewrap", "home", "disk", "server", "port"]
    assert healthy.code == 0
    ill = cli("doctor", "--home", str(home), "--comfyui-dir", str(tmp_path), "--json")
    assert ill.code == ExitCode.FAILED
    assert ill.json["findings"][-1]["level"] == "problem"
    assert "1 problem to mend" in ill.err
