"""The promises that hold for every command: names, options, exit codes, speed."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from comfyserve.cli import errors as cli_errors
from comfyserve.cli.errors import ExitCode
from comfyserve.cli.main import SECTIONS, cli, exit_code_of, run_command
from comfyserve.domain import errors
from comfyserve.domain.errors import ComfyserveError
from comfyserve.testing.command import Cli


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from walk(found, (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = dict(walk(cli))
DESTRUCTIVE = {
    "rm",
    "endpoint rm",
    "secret delete",
    "token revoke",
    "build prune",
    "webhook rm",
    "output revoke",
    "output rm",
    "volume delete",
    "volume rm",
}
NO_DATA = {
    "build logs", "output revoke", "output rm",
    "logs", "rm", "serve", "serve-dev", "server stop", "demo", "token revoke", "budget rm", "endpoint rm",
    "secret create", "secret delete", "secret modify", "webhook rm",
    "volume cp", "volume create", "volume delete", "volume mv", "volume rm",
}  # fmt: skip
"""Commands without JSON: they print a log, nothing, or (the server) its address."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInput("x"), 2),
        (errors.NotFound("x"), 3),
        (errors.Gone("x"), 3),
        (cli_errors.Refused("x"), 4),
        (cli_errors.PromptRefused("x", body={}, evidence=()), 4),
        (errors.Conflict("x"), 4),
        (errors.HomeInUse("x"), 4),
        (cli_errors.TimedOut("x"), 124),
        (cli_errors.JobFailed("x"), 1),
        (cli_errors.Unreachable("x"), 1),
        (cli_errors.ServerFailed("x"), 1),
        (errors.StorageFull("x"), 1),
    ],
)
def test_every_error_has_its_exit_code(error: ComfyserveError, code: int) -> None:
    assert exit_code_of(error) == code


def test_the_list_says_of_each_command_what_the_command_says_itself() -> None:
    context = click.Context(cli)
    for _, entries in SECTIONS:
        for entry in entries:
            command = cli.get_command(context, entry.name)
            assert command is not None
            assert command.name == entry.name
            assert command.get_short_help_str(200) == entry.help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_names_its_variable_in_the_help(name: str) -> None:
    command = COMMANDS[name]
    context = click.Context(command, info_name=name, auto_envvar_prefix="COMFYSERVE_X")
    for option in command.params:
        if isinstance(option, click.Option):
            record = option.get_help_record(context)
            assert record is not None
            assert "env var: COMFYSERVE_" in " ".join(record[1].split()), option.name
            assert option.help
            assert option.help.endswith("."), option.help


@pytest.mark.parametrize("name", COMMANDS)
def test_what_gives_data_gives_json_and_what_destroys_can_be_confirmed(name: str) -> None:
    options = {text for option in COMMANDS[name].params for text in option.opts}
    assert ("--json" in options) == (name not in NO_DATA)
    assert ("--yes" in options) == (name in DESTRUCTIVE)


def test_the_help_is_quick_because_it_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from comfyserve.cli.main import run_command\n"
        "assert run_command(['--help']) == 0\n"
        "heavy = {'rich', 'msgspec', 'http.client', 'ssl', 'aiohttp', 'fastapi', 'sqlalchemy'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("loaded: []\n")
    assert "Every day:" in done.stdout


def test_a_command_of_a_client_never_loads_the_server() -> None:
    script = (
        "import sys\n"
        "from comfyserve.cli import deploy, deployment, job, logs, replica, run, token, usage\n"
        "heavy = {'aiohttp', 'fastapi', 'starlette', 'sqlalchemy', 'pydantic', 'numpy', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_module_can_be_run() -> None:
    """`demo` starts its server so."""
    command = [sys.executable, "-m", "comfyserve.cli.main", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("comfyserve, version ")


@pytest.mark.parametrize("arguments", [["nonsense"], ["deploy"], ["job"], ["run", "--nonsense"]])
def test_misuse_is_a_usage_error(cli: Cli, arguments: list[str]) -> None:
    ran = cli(*arguments)
    assert ran.code == ExitCode.USAGE
    assert ran.out == ""
    assert "Traceback" not in ran.err


def test_a_reader_that_goes_away_is_no_error_to_talk_about() -> None:
    script = (
        "import os, sys\n"
        "from comfyserve.cli import render\n"
        "from comfyserve.cli.main import cli, main\n"
        "import click\n"
        "@cli.command('flood')\n"
        "def flood():\n"
        "    for number in range(100000): render.emit('x' * 100)\n"
        "cli.get_command = lambda ctx, name: flood\n"
        "main(['flood'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == ExitCode.FAILED
    assert said == b""


def test_an_interrupt_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def press_ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", press_ctrl_c)
    assert run_command(["status"]) == ExitCode.INTERRUPTED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip() == "interrupted"
