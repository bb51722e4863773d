"""Outputs and links to them: `output url|revoke|rm`."""

from urllib.parse import quote

import click

from comfyserve.cli import answers, render
from comfyserve.cli.client import Client
from comfyserve.cli.option import option
from comfyserve.cli.options import confirm, json_option, server_options, yes_option
from comfyserve.sdk.transport import Request


@click.group(short_help="Make links to outputs, revoke them.")
def output() -> None:
    """Outputs of jobs and applications, and links to them that need no token."""


@output.command("url", short_help="Make a link to an output.")
@click.argument("output_id", metavar="OUTPUT")
@option(
    "--expires",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    help="How long the link is good. Default: 3600.",
)
@json_option
@server_options
def output_url(client: Client, *, output_id: str, expires: float, as_json: bool) -> None:
    """Print a link to the output with the id OUTPUT: `comfyserve job show` has the ids."""
    path = f"{_path(output_id)}/url"
    answer = client.ask("POST", path, answers.Link, body={"expires_s": expires})
    if as_json:
        render.emit_json(answer.json)
    else:
        render.emit(answer.value.url)


@output.command("revoke", short_help="Make all links to an output worthless.")
@click.argument("output_id", metavar="OUTPUT")
@yes_option
@server_options
def revoke_output(client: Client, *, output_id: str, yes: bool) -> None:
    """Make all links to OUTPUT that were handed out worthless, at once; new ones can be made."""
    confirm(f"Revoke all links to the output '{output_id}'?", yes=yes)
    client.ask("POST", f"{_path(output_id)}/revoke", answers.Revoked)
    render.say(f"links to {output_id} are revoked")


@output.command("rm", short_help="Delete an output.")
@click.argument("output_id", metavar="OUTPUT")
@yes_option
@server_options
def remove_output(client: Client, *, output_id: str, yes: bool) -> None:
    """Delete the output OUTPUT; links to it lead nowhere from now on."""
    confirm(f"Delete the output '{output_id}'?", yes=yes)
    client.transport.send(Request("DELETE", f"/api/v1{_path(output_id)}"))
    render.say(f"{output_id} is deleted")


def _path(output_id: str) -> str:
    return f"/outputs/{quote(output_id, safe='')}"
