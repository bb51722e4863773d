"""Typed endpoints: `publish`, and `endpoint list|show|rm|versions|rollback`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from comfyserve.cli import render
from comfyserve.cli.answers import Endpoint, EndpointRow, EndpointVersion
from comfyserve.cli.client import Client
from comfyserve.cli.documents import read_file, read_input
from comfyserve.cli.option import option
from comfyserve.cli.options import (
    confirm,
    deployment_option,
    json_option,
    server_options,
    yes_option,
)
from comfyserve.cli.units import ago_text, utc_now
from comfyserve.cli.workflow_file import read_json
from comfyserve.domain.errors import InvalidInput
from comfyserve.sdk.refusals import listed_problems
from comfyserve.workflow.metadata import KEYS, read_embedded

_of_option = option(
    "--deployment",
    "-d",
    metavar="NAME",
    envvar="COMFYSERVE_DEPLOYMENT",
    help="The deployment that has it; else the default one.",
)


@click.command(short_help="Make a workflow an endpoint with typed inputs.")
@click.argument("name")
@click.argument("file", metavar="WORKFLOW")
@_of_option
@option(
    "--interface",
    "interface_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Names and types of the inputs; else they are inferred. `endpoint show --json` has the form.",
)
@option("--allow-missing", is_flag=True, help="Publish it although model files are lacking.")
@option("--reuse", is_flag=True, help="Answer a repeated call with the outputs of the first.")
@json_option
@server_options
def publish(  # noqa: PLR0913 - each is an option
    client: Client,
    *,
    name: str,
    file: str,
    deployment: str | None,
    interface_file: Path | None,
    allow_missing: bool,
    reuse: bool,
    as_json: bool,
) -> None:
    """Publish the file WORKFLOW as the endpoint NAME: POST /run/NAME runs it, with inputs by name.

    The file is what people have: the editor's export, a prompt in API format, or a picture that ComfyUI
    saved. It is checked by the deployment's node catalog and refused with all reasons if it cannot
    run; nothing wakes. Each publish is a new version; `endpoint rollback` goes back to an older one.
    """
    body: dict[str, Any] = {
        "workflow": _workflow_of(read_input(file), file),
        "allow_missing": allow_missing,
        "reuse": reuse,
    }
    if interface_file is not None:
        body["interface"] = _interface_of(interface_file)
    answer = client.publish(name, body, deployment)
    if as_json:
        render.emit_json(answer.json)
        return
    found = answer.value
    for line in listed_problems(found.warnings):
        render.warn(line)
    render.say(f"{name} version {found.version} is published on {found.deployment}; it takes:")
    render.say_table(_inputs_table(found.interface.get("inputs") or []))
    render.emit(found.url)


@click.group(short_help="List endpoints, roll them back.")
def endpoint() -> None:
    """Typed endpoints: workflows under a name, called with POST /run/NAME."""


@endpoint.command("list", short_help="List the endpoints.")
@deployment_option
@json_option
@server_options
def list_endpoints(client: Client, *, deployment: str | None, as_json: bool) -> None:
    """List the endpoints with their current versions."""
    answer = client.endpoints(deployment)
    if as_json:
        render.emit_json(answer.json)
    elif answer.value.endpoints:
        render.show(_endpoints_table(answer.value.endpoints))
    else:
        render.say("no endpoints yet; make one with `comfyserve publish NAME workflow.json`")


@endpoint.command("show", short_help="Show one endpoint.")
@click.argument("name")
@_of_option
@json_option
@server_options
def show_endpoint(client: Client, *, name: str, deployment: str | None, as_json: bool) -> None:
    """Show what NAME takes and gives, and whether it fits its deployment as that is now."""
    answer = client.endpoint(name, deployment)
    if as_json:
        render.emit_json(answer.json)
        return
    found = answer.value
    render.show(_facts(found))
    render.show("")
    render.show(_inputs_table(found.interface.get("inputs") or []))
    if found.problems:
        render.fail("it does not fit its deployment any more", listed_problems(found.problems))


@endpoint.command("rm", short_help="Delete an endpoint.")
@click.argument("name")
@_of_option
@yes_option
@server_options
def remove_endpoint(client: Client, *, name: str, deployment: str | None, yes: bool) -> None:
    """Delete NAME with all its versions. Jobs that it made stay."""
    client.endpoint(name, deployment)
    confirm(f"Delete the endpoint '{name}' with all its versions?", yes=yes)
    client.delete_endpoint(name, deployment)
    render.say(f"{name} is deleted")


@endpoint.command("versions", short_help="List the versions of an endpoint.")
@click.argument("name")
@_of_option
@json_option
@server_options
def list_versions(client: Client, *, name: str, deployment: str | None, as_json: bool) -> None:
    """List all versions of NAME, the newest first."""
    answer = client.endpoint_versions(name, deployment)
    if as_json:
        render.emit_json(answer.json)
    else:
        render.show(_versions_table(answer.value.versions))


@endpoint.command("rollback", short_help="Go back to an older version.")
@click.argument("name")
@option("--to", "number", metavar="VERSION", type=int, help="The version; else the one before.")
@_of_option
@json_option
@server_options
def rollback(
    client: Client, *, name: str, number: int | None, deployment: str | None, as_json: bool
) -> None:
    """Make an older version of NAME the current one. Newer ones stay, and can be returned to."""
    if number is None:
        number = client.endpoint(name, deployment).value.version - 1
        if number < 1:
            raise InvalidInput(f"'{name}' has no version before the present one")
    answer = client.use_version(name, number, deployment)
    if as_json:
        render.emit_json(answer.json)
        return
    render.say(f"{name} is at version {answer.value.version}")
    if answer.value.problems:
        lines = listed_problems(answer.value.problems)
        render.fail("this version does not fit the deployment as it is now", lines)


def _workflow_of(data: bytes, name: str) -> Any:  # noqa: ANN401 - any JSON
    """The workflow in a file: JSON, or what ComfyUI embedded. Raises InvalidInput."""
    embedded = read_embedded(data)
    if embedded is None:
        found = read_json(data)
    else:
        texts = {key: json.loads(embedded.texts[key]) for key in KEYS if key in embedded.texts}
        found = texts if "prompt" in texts else texts.get("workflow")
    if not isinstance(found, dict):
        raise InvalidInput(
            f"{name} is no workflow: give an export of ComfyUI (Workflow, Export), or a picture "
            "that it saved"
        )
    return found


def _interface_of(file: Path) -> Mapping[str, Any]:
    found = read_json(read_file(file))
    if isinstance(found, dict) and "comfyserve_interface" not in found:
        found = found.get("interface", found)  # what `endpoint show --json` prints around it
    if not isinstance(found, dict):
        raise InvalidInput(f"{file} is no interface: it has to be a JSON object")
    return found


def _endpoints_table(rows: Sequence[EndpointRow]) -> Table:
    table = render.columns("NAME", "DEPLOYMENT", "VERSION", "PUBLISHED", "URL", right=("VERSION",))
    now = utc_now()
    for row in rows:
        table.add_row(
            Text(row.name, "bold"),
            Text(row.deployment),
            str(row.version),
            ago_text(row.published_at, now),
            Text(row.url),
        )
    return table


def _versions_table(rows: Sequence[EndpointVersion]) -> Table:
    table = render.columns("VERSION", "CURRENT", "PUBLISHED", "BY", right=("VERSION",))
    now = utc_now()
    for row in rows:
        mark = "yes" if row.current else ""
        table.add_row(
            str(row.number), mark, ago_text(row.published_at, now), Text(row.published_by)
        )
    return table


def _facts(found: Endpoint) -> Table:
    outputs = found.interface.get("outputs") or []
    return render.facts(
        (
            ("name", Text(found.name, "bold")),
            ("deployment", found.deployment),
            ("url", found.url),
            ("version", f"{found.version}, {ago_text(found.published_at, utc_now())}"),
            ("outputs", ", ".join(f"{each['name']} ({each['type']})" for each in outputs)),
            ("reuse", "yes" if found.reuse else ""),
        )
    )


def _inputs_table(inputs: Sequence[Mapping[str, Any]]) -> Table:
    table = render.columns("INPUT", "TYPE", "DEFAULT", "ALLOWED")
    for each in inputs:
        default = each.get("default")
        shown = "(required)" if each.get("required") else json.dumps(default, ensure_ascii=False)
        table.add_row(
            Text(str(each["name"]), "bold"),
            Text(str(each["type"])),
            Text(shown if len(shown) <= 40 else f"{shown[:40]}..."),
            Text(_allowed(each)),
        )
    return table


def _allowed(each: Mapping[str, Any]) -> str:
    choices = each.get("choices")
    if isinstance(choices, list):
        more = f" and {len(choices) - 6} more" if len(choices) > 6 else ""
        return ", ".join(map(str, choices[:6])) + more
    low, high = each.get("min"), each.get("max")
    if low is None and high is None:
        return ""
    return f"{'' if low is None else low}..{'' if high is None else high}"
