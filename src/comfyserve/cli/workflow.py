"""Workflows, looked at before anything runs: `workflow convert|validate|requirements|inspect`."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from rich.table import Table
from rich.text import Text

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.documents import write_json
from comfyserve.cli.drawing import check_target, save_drawing
from comfyserve.cli.errors import CommandError
from comfyserve.cli.examination import Examined, Sought, examine
from comfyserve.cli.option import option
from comfyserve.cli.options import json_option, server_options
from comfyserve.cli.problem_lines import problem_lines, single_problems, verdict_line
from comfyserve.cli.units import count_text
from comfyserve.cli.workflow_tables import overview, requirements_parts
from comfyserve.workflow import Flavour, Prepared, Problem
from comfyserve.workflow.check import problems_json, summary_json
from comfyserve.workflow.plain import plain

R = TypeVar("R")
Look = Callable[[], Examined]
"""Reads the file and judges it."""

_FLAVOURS = {"new": Flavour.NEW, "1.27": Flavour.OLD}
_OPTIONS: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...] = (
    click.argument("file", metavar="FILE"),
    option(
        "--deployment",
        "-d",
        metavar="NAME",
        envvar="COMFYSERVE_DEPLOYMENT",
        help="Judge by the node catalog of this deployment; else of the default one.",
    ),
    option(
        "--catalog",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Judge by this node catalog: what /object_info answered, as JSON.",
    ),
    option(
        "--flavour",
        type=click.Choice(list(_FLAVOURS)),
        default="new",
        help="The frontend whose conversion is followed. Default: new.",
    ),
    json_option,
    server_options,
)


def looking(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the FILE, the options that say what to judge it by, and the look at it."""

    @functools.wraps(command)
    def looked(client: Client, **given: Any) -> R:  # noqa: ANN401 - checked by `Sought`
        if given["catalog"] is not None:
            if _is_typed("deployment"):
                raise click.UsageError("give --deployment or --catalog, not both")
            given["deployment"] = None
        given["flavour"] = _FLAVOURS[given["flavour"]]
        sought = Sought(**{field.name: given.pop(field.name) for field in fields(Sought)})
        return command(lambda: _look(client, sought), **given)

    for add in reversed(_OPTIONS):
        looked = add(looked)
    return looked


@click.group(short_help="Convert, validate and explain workflows.")
def workflow() -> None:
    """Look at workflows before anything runs or wakes.

    FILE is what people have, or - for stdin: the editor's export, a prompt in API format, an app, or
    a picture, sound or video that ComfyUI saved. It is judged by the node catalog of --catalog, else
    of the deployment, else, with no server running, of the embedded engine; stderr says by which.
    """


@workflow.command("convert", short_help="Make a prompt of a workflow.")
@option(
    "--out",
    "-o",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the prompt is saved; else it is printed.",
)
@looking
def convert(look: Look, *, out: Path | None, as_json: bool) -> None:
    """Make a prompt in API format of FILE, as ComfyUI's own editor does it.

    Prints the prompt on stdout, or saves it; what had to be assumed is on stderr.
    """
    prepared = look().check.prepared
    remarks, prompt = _remarks(prepared), plain(prepared.prompt) or None
    for line in problem_lines(remarks):
        render.say(line)
    if as_json:
        found = {**plain(summary_json(prepared)), **problems_json(remarks)}
        render.emit_json({**found, "prompt": prompt})
    if prompt is None:
        raise CommandError("the workflow cannot be converted to a prompt")
    if out is not None:
        write_json(out, prompt)
    if not as_json:
        render.emit_json(prompt) if out is None else render.emit(str(out))


@workflow.command("validate", short_help="Say what ComfyUI would say to a workflow.")
@looking
def validate(look: Look, *, as_json: bool) -> None:
    """Say whether FILE would run, and if not, what is wrong with which node and how to mend it.

    Exits with 1 if an output would not run; warnings are for your judgement.
    """
    prepared = look().check.prepared
    if as_json:
        found = {**plain(summary_json(prepared)), **problems_json(prepared.problems)}
        render.emit_json(found)
    else:
        for line in problem_lines(prepared.problems):
            render.show_line(line)
        render.show_line(verdict_line(prepared))
    _check(prepared)


@workflow.command("requirements", short_help="Say what a workflow needs.")
@looking
def requirements(look: Look, *, as_json: bool) -> None:
    """List the models, node packs and input files that FILE needs, and how to get what is missing.

    Exits with 1 if something is known to be missing.
    """
    needs = look().check.requirements
    if as_json:
        render.emit_json(plain(needs.to_json()))
    else:
        _show(requirements_parts(needs))
    if needs.missing:
        raise CommandError(f"{count_text(len(needs.missing), 'thing')} missing")


@workflow.command("inspect", short_help="Show what a workflow is, takes, gives and needs.")
@option(
    "--draw",
    "drawing",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the graph too, nodes with problems marked: .svg, or .png.",
)
@looking
def inspect(look: Look, *, drawing: Path | None, as_json: bool) -> None:
    """Show the graph of FILE in short, its inputs and outputs by name, its problems and its needs.

    Exits with 1 if an output would not run. A PNG takes a converter such as rsvg-convert.
    """
    if drawing is not None:
        check_target(drawing)
    found = look()
    if drawing is not None:
        save_drawing(found.check.prepared, drawing)
        render.say(f"drawn: {drawing}")
    if as_json:
        render.emit_json(found.check.to_json())
    else:
        _show(overview(found.check, found.chosen.owner))
    _check(found.check.prepared)


def _look(client: Client, sought: Sought) -> Examined:
    found = examine(client, sought)
    render.say(f"judged by the node catalog of {found.chosen.owner}", style="dim")
    return found


def _show(parts: Iterable[Table | Text]) -> None:
    for part in parts:
        if isinstance(part, Text):
            render.show_line(part)
        else:
            render.show(part)


def _is_typed(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def _remarks(prepared: Prepared) -> Sequence[Problem]:
    """What the conversion says; it comes before what the verdict says."""
    verdict = prepared.verdict
    judged = 0 if verdict is None else len(verdict.problems) + len(verdict.warnings)
    return prepared.problems[: len(prepared.problems) - judged]


def _check(prepared: Prepared) -> None:
    if prepared.errors:
        errors = single_problems(prepared.errors)
        raise CommandError(f"{count_text(len(errors), 'error')} to mend")
