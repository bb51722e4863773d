"""The list of commands, and the only mapping from errors to exit codes."""

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import click

from comfyserve import __version__
from comfyserve.cli.errors import (
    ClientError,
    ExitCode,
    Interrupted,
    Refused,
    TimedOut,
)
from comfyserve.domain.errors import (
    BudgetSpent,
    ComfyserveError,
    Conflict,
    EngineFailure,
    Forbidden,
    Gone,
    InvalidInput,
    NotFound,
    Unauthorized,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: where it is, and its line in the help. Its module is imported when it is used."""

    name: str
    module: str
    help: str


SECTIONS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "Every day",
        (
            Entry("deploy", "deploy", "Create a deployment, or give it a new revision."),
            Entry("run", "run", "Run a workflow and save what it makes."),
            Entry("publish", "endpoint", "Make a workflow an endpoint with typed inputs."),
            Entry("status", "deployment", "Show the deployments, or one of them."),
            Entry("logs", "logs", "Show the log of a deployment or replica."),
            Entry("build", "build", "Build an image, list and prune builds."),
            Entry("stop", "deployment", "Stop a deployment: no work, no replicas."),
            Entry("start", "deployment", "Let a stopped deployment take work again."),
            Entry("rm", "deployment", "Delete a deployment."),
        ),
    ),
    (
        "Workflows, with or without a server",
        (
            Entry("workflow", "workflow", "Convert, validate and explain workflows."),
            Entry("catalog", "catalog", "Save the node catalog of a deployment."),
        ),
    ),
    (
        "The server",
        (
            Entry("serve", "serve", "Run the server."),
            Entry("serve-dev", "serve_dev", "Deploy code, again at each save."),
            Entry("server", "server", "Show or stop the server in the background."),
            Entry("demo", "demo", "See a workflow go through an API that was asleep."),
            Entry("doctor", "doctor", "Check this machine, and say how to mend it."),
        ),
    ),
    (
        "In detail",
        (
            Entry("deployment", "deployment", "List deployments, wake them, roll them back."),
            Entry("endpoint", "endpoint", "List endpoints, roll them back."),
            Entry("job", "job", "List, show and cancel jobs."),
            Entry("output", "output", "Make links to outputs, revoke them."),
            Entry("replica", "replica", "List and stop replicas."),
            Entry("secret", "secret", "Set, list and delete secrets."),
            Entry("token", "token", "Make, list and revoke tokens."),
            Entry("webhook", "webhook", "Tell URLs of jobs; replay what they missed."),
            Entry("volume", "volume", "Make, list, fill and delete volumes."),
            Entry("usage", "usage", "Show where the seconds of the replicas went."),
            Entry("estimate", "estimate", "Say what a workflow would take and cost."),
            Entry("simulate", "simulate", "Say what the same traffic would have cost otherwise."),
            Entry("budget", "budget", "Cap what a deployment or token may cost in a month."),
        ),
    ),
)
_ENTRIES = {entry.name: entry for _, entries in SECTIONS for entry in entries}

# The first match counts.
_EXIT_CODES: tuple[tuple[type[ComfyserveError], ExitCode], ...] = (
    (InvalidInput, ExitCode.USAGE),
    (NotFound, ExitCode.NOT_FOUND),
    (Gone, ExitCode.NOT_FOUND),
    (Refused, ExitCode.REFUSED),
    (Conflict, ExitCode.REFUSED),
    (Unauthorized, ExitCode.REFUSED),
    (Forbidden, ExitCode.REFUSED),
    (BudgetSpent, ExitCode.REFUSED),
    (TimedOut, ExitCode.TIMED_OUT),
    (ComfyserveError, ExitCode.FAILED),
)


class Commands(click.Group):
    """A group that knows its commands by name and imports each when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names in the order of the help."""
        return list(_ENTRIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        entry = _ENTRIES.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"comfyserve.cli.{entry.module}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the help's list of commands, without importing any."""
        width = max(map(len, _ENTRIES))
        for title, entries in SECTIONS:
            with formatter.section(title):
                formatter.write_dl([(entry.name.ljust(width), entry.help) for entry in entries])


@click.group(
    cls=Commands, context_settings={"auto_envvar_prefix": "COMFYSERVE", "max_content_width": 100}
)
@click.version_option(__version__, prog_name="comfyserve")
def cli() -> None:
    """ComfyUI as an HTTPS API on GPUs that you own or rent, awake only while there is work.

    Data goes to stdout, talk to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 3 not found,
    4 refused, 124 timed out, 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    sys.exit(run_command(arguments))


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Expected errors become one line on stderr."""
    try:
        result = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="comfyserve",
            standalone_mode=False,
        )
    except (
        click.ClickException,
        click.Abort,
        KeyboardInterrupt,
        ComfyserveError,
        OSError,
    ) as error:
        return _explain(error)
    return result if isinstance(result, int) else ExitCode.OK


def _explain(error: BaseException) -> int:
    """Say what went wrong, and what to do; return the exit code."""
    from comfyserve.cli import render

    code: int = ExitCode.FAILED
    match error:
        case click.ClickException():
            error.show()
            code = error.exit_code
        case Interrupted():
            render.say(error.message, style="yellow")
            code = ExitCode.INTERRUPTED
        case ComfyserveError():
            render.fail(error.message, _evidence(error))
            code = exit_code_of(error)
        case BrokenPipeError():
            # Whoever read our output has gone; there is nobody to tell. Keeps the interpreter
            # from flushing into the closed pipe once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        case OSError():
            render.fail(
                f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
            )
        case _:
            render.say("interrupted", style="yellow")
            code = ExitCode.INTERRUPTED
    return code


def _evidence(error: ComfyserveError) -> Sequence[str]:
    match error:
        case ClientError():
            return error.evidence
        case EngineFailure():
            return error.log_tail
        case _:
            return ()


def exit_code_of(error: ComfyserveError) -> ExitCode:
    """The exit code that an error stands for."""
    return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))


if __name__ == "__main__":
    main()
