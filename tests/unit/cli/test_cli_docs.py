"""docs/cli.md says what the commands are: compared with click's own tree."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from comfyserve.cli.errors import ExitCode
from comfyserve.cli.main import SECTIONS, cli

TEXT = (Path(__file__).parents[3] / "docs" / "cli.md").read_text("utf-8")


def contexts(
    command: click.Command, parent: click.Context | None = None, name: str = "comfyserve"
) -> Iterator[click.Context]:
    settings = dict(command.context_settings)
    context = click.Context(command, parent=parent, info_name=name, **settings)
    if not isinstance(command, click.Group):
        yield context
        return
    for child in command.list_commands(context):
        found = command.get_command(context, child)
        assert found is not None
        yield from contexts(found, context, child)


def variable(option: click.Option, context: click.Context) -> str:
    if isinstance(option.envvar, str):
        return option.envvar
    return f"{context.auto_envvar_prefix}_{(option.name or '').upper()}"


def usage(context: click.Context) -> str:
    pieces = context.command.collect_usage_pieces(context)
    return " ".join(["comfyserve", *context.command_path.split()[1:], *pieces])


def table(context: click.Context) -> str:
    """The table of a command's options, as the document has to have it."""
    rows = ["| option | variable | meaning |", "|---|---|---|"]
    for option in context.command.params:
        if isinstance(option, click.Option):
            names = ", ".join(f"`{name}`" for name in reversed(option.opts))
            metavar = "" if option.is_flag else f" {option.make_metavar(context)}"
            shown = f"{names}{metavar}".replace("|", "\\|")
            rows.append(f"| {shown} | `{variable(option, context)}` | {option.help} |")
    return "\n".join(rows)


CONTEXTS = {" ".join(context.command_path.split()[1:]): context for context in contexts(cli)}


def section(name: str) -> str:
    found = re.search(rf"^### {re.escape(name)}\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/cli.md has no section '### {name}'"
    return found[1]


@pytest.mark.parametrize("name", CONTEXTS)
def test_each_command_is_documented_with_its_usage_and_all_of_its_options(name: str) -> None:
    context = CONTEXTS[name]
    text = section(name)
    assert f"`{usage(context)}`" in text
    assert table(context) in text, f"the table of '{name}' should be:\n{table(context)}"


def test_no_command_is_documented_that_does_not_exist() -> None:
    assert re.findall(r"^### (.+)$", TEXT, re.MULTILINE) == list(CONTEXTS)


def test_the_sections_are_those_of_the_help() -> None:
    titles = [title for title, _ in SECTIONS]
    assert [
        title for title in re.findall(r"^## (.+)$", TEXT, re.MULTILINE) if title in titles
    ] == titles


def test_every_exit_code_is_explained() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w[\w ]*) \|", TEXT, re.MULTILINE)
    assert rows == [(str(int(code)), code.name.lower().replace("_", " ")) for code in ExitCode]


def test_every_command_in_a_code_block_exists() -> None:
    shown = re.findall(r"^(?:\$ )?comfyserve ([a-z]+)(?: ([a-z]+))?", TEXT, re.MULTILINE)
    assert shown
    for first, second in shown:
        assert first in CONTEXTS or f"{first} {second}" in CONTEXTS, f"{first} {second}"
