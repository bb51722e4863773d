"""The guides do what they say: each shell block runs as it stands, in order, in one shell."""

from pathlib import Path

import click
import pytest
from tests.e2e.guide import BLOCK, ROOT, run_guide

from comfyserve.cli.main import cli


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_the_first_steps(tmp_path: Path, free_port: int) -> None:
    result = run_guide("first-steps.md", tmp_path, free_port)
    assert result.returncode == 0, result.stdout + result.stderr
    assert '"EmptyImage"' in result.stdout
    assert "SaveImage" in result.stdout.rpartition("missing_node_type")[2]
    assert list((tmp_path / "pictures").rglob("red_*.png"))


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_what_it_costs(tmp_path: Path, free_port: int) -> None:
    result = run_guide("what-it-costs.md", tmp_path, free_port)
    assert result.returncode == 0, result.stdout + result.stderr
    shown = result.stdout
    assert "has spent" in shown, "the budget refuses"
    assert "asleep after 60 s" in shown
    assert (tmp_path / "costs.svg").read_text("utf-8").startswith("<?xml")


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_updates_without_downtime(tmp_path: Path, free_port: int) -> None:
    result = run_guide("updates-without-downtime.md", tmp_path, free_port)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(list((tmp_path / "during").rglob("red_*.png"))) == 4
    assert "studio is at revision 1" in result.stderr
    assert "gone for good" in result.stdout


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
