"""The guides do what they say: each shell block runs as it stands, in order, in one shell."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from comfyserve.cli.main import cli

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_the_first_steps(tmp_path: Path, free_port: int) -> None:
    text = (ROOT / "docs" / "guides" / "first-steps.md").read_text("utf-8")
    script = "\n".join(
        ["set -euo pipefail", "trap 'kill %1; wait' EXIT", *BLOCK.findall(text)]
    ).replace("127.0.0.1:8000", f"127.0.0.1:{free_port}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={
            "PATH": path,
            "HOME": str(tmp_path),
            "COMFYSERVE_PORT": str(free_port),
            "LANG": "C.UTF-8",
        },
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert '"EmptyImage"' in result.stdout
    assert "SaveImage" in result.stdout.rpartition("missing_node_type")[2]
    assert list((tmp_path / "pictures").rglob("red_*.png"))


def _commands() -> list[str]:
    papers = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    found = []
    for paper in papers:
        for block in BLOCK.findall(paper.read_text("utf-8")):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line for line in lines if line.strip().startswith("comfyserve ")]
    return sorted(set(found))


@pytest.mark.parametrize("line", _commands())
def test_every_command_of_the_papers_is_one(line: str, tmp_path: Path) -> None:
    """Click itself takes it apart: the command and its options exist."""
    words = line.partition("#")[0].replace("&", "").split()[1:]
    command: click.Command = cli
    context = click.Context(cli, info_name="comfyserve")
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command '{words[0]}'"
        command, words = found, words[1:]
    options = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in options, f"{command.name} has no {word}"
