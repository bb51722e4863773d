"""Tokens: `token create|list|revoke`."""

import click

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.option import option
from comfyserve.cli.options import confirm, json_option, server_options, yes_option
from comfyserve.cli.tables import tokens_table
from comfyserve.cli.units import utc_now

_SCOPES = ("read", "run", "admin")


@click.group(short_help="Make, list and revoke tokens.")
def token() -> None:
    """Tokens: what a caller from another machine shows."""


@token.command("create", short_help="Make a token.")
@click.argument("name")
@option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPES),
    multiple=True,
    default=("run",),
    help="What it allows; each includes the one before: read, run, admin. Default: run.",
)
@option("--deployment", "-d", metavar="NAME", help="Only for this deployment.")
@json_option
@server_options
def create_token(
    client: Client, *, name: str, scopes: tuple[str, ...], deployment: str | None, as_json: bool
) -> None:
    """Make a token called NAME and print its secret, which is shown this once."""
    answer = client.create_token(name, scopes, deployment)
    if as_json:
        render.emit_json(answer.json)
        return
    render.say(f"token {answer.value.id}; this is its secret, it is not shown again:")
    render.emit(answer.value.secret or "")


@token.command("list", short_help="List the tokens.")
@json_option
@server_options
def list_tokens(client: Client, *, as_json: bool) -> None:
    """List all tokens, without their secrets."""
    answer = client.tokens()
    if as_json:
        render.emit_json(answer.json)
    elif answer.value.tokens:
        render.show(tokens_table(answer.value.tokens, utc_now()))
    else:
        render.say("no tokens; make one with `comfyserve token create NAME`")


@token.command("revoke", short_help="Revoke a token.")
@click.argument("token_id", metavar="TOKEN")
@yes_option
@server_options
def revoke_token(client: Client, *, token_id: str, yes: bool) -> None:
    """Make the token with the id TOKEN worthless, at once and for good."""
    confirm(f"Revoke the token '{token_id}'?", yes=yes)
    client.revoke_token(token_id)
    render.say(f"{token_id} is revoked")
