"""A scripted server, and the command line against it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyserve.cli.main import run_command
from comfyserve.testing.command import Cli, Ran
from comfyserve.testing.control_server import ControlServer, control_server


@pytest.fixture
def control() -> Iterator[ControlServer]:
    """A server that answers as a test tells it to."""
    with control_server() as server:
        yield server


@pytest.fixture
def cli(
    control: ControlServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    """Run a command against `control`, in an empty directory, without settings of the user."""
    config = tmp_path / "config.toml"
    config.touch()
    monkeypatch.setenv("COMFYSERVE_CONFIG", str(config))
    monkeypatch.setenv("COMFYSERVE_URL", control.url)
    directory = tmp_path / "work"
    directory.mkdir()
    monkeypatch.chdir(directory)

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        code = run_command(arguments)
        captured = capsys.readouterr()
        return Ran(int(code), captured.out, captured.err)

    return run
