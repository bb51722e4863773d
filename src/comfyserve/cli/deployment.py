"""Deployments: `deployment list|warm|revisions|rollback`, and the short verbs `status`, `stop`, `start`, `rm`."""

import click

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.options import confirm, json_option, server_options, yes_option
from comfyserve.cli.revisions import revisions_table
from comfyserve.cli.tables import (
    deployment_facts,
    deployments_table,
    replicas_table,
)
from comfyserve.cli.units import utc_now

_ROLLBACK_TIMEOUT_S = 3600.0
"""An engine may take long to start; its own timeout ends it before."""


@click.group(short_help="List deployments, wake them, roll them back.")
def deployment() -> None:
    """Deployments: named, long-lived, asleep while there is no work."""


@deployment.command("list", short_help="List the deployments.")
@json_option
@server_options
def list_deployments(client: Client, *, as_json: bool) -> None:
    """List all deployments with what they do right now."""
    _list(client, as_json=as_json)


@deployment.command("warm", short_help="Wake a deployment.")
@click.argument("name")
@json_option
@server_options
def warm(client: Client, *, name: str, as_json: bool) -> None:
    """Wake a replica of NAME without a job, so that the next one need not wait."""
    _change(client, name, "warm", as_json=as_json)


@deployment.command("revisions", short_help="List what a deployment was.")
@click.argument("name")
@json_option
@server_options
def revisions(client: Client, *, name: str, as_json: bool) -> None:
    """List all revisions of NAME; `deployment rollback` makes one the current one again."""
    answer = client.revisions(name)
    if as_json:
        render.emit_json(answer.json)
    else:
        render.show(revisions_table(answer.value.revisions, utc_now()))


@deployment.command("rollback", short_help="Make an earlier revision the current one.")
@click.argument("name")
@click.argument("revision", required=False, type=click.IntRange(min=1))
@json_option
@server_options
def rollback(client: Client, *, name: str, revision: int | None, as_json: bool) -> None:
    """Make REVISION of NAME the current one again; without it, the one before the current.

    Replicas that are awake are replaced without a gap: one of that revision is started first, and
    if it cannot be, everything stays as it is.
    """
    with render.busy(f"rolling {name} back"):
        body = {} if revision is None else {"revision": revision}
        answer = client.change_deployment(name, "rollback", body, _ROLLBACK_TIMEOUT_S)
    if as_json:
        render.emit_json(answer.json)
    else:
        render.say(f"{name} is at revision {answer.value.revision} and {answer.value.status}")


@click.command(short_help="Show the deployments, or one of them.")
@click.argument("name", required=False)
@json_option
@server_options
def status(client: Client, *, name: str | None, as_json: bool) -> None:
    """Show all deployments, or NAME with its replicas and the reason if it cannot start."""
    if name is None:
        _list(client, as_json=as_json)
        return
    answer = client.deployment(name)
    if as_json:
        render.emit_json(answer.json)
        return
    now = utc_now()
    render.show(deployment_facts(answer.value, now))
    if answer.value.replicas:
        render.show("")
        render.show(replicas_table(answer.value.replicas, now))
    error = answer.value.last_start_error
    if error is not None:
        render.fail(f"the last start failed: {error.message}", error.log_tail)


@click.command(short_help="Stop a deployment: no work, no replicas.")
@click.argument("name")
@json_option
@server_options
def stop(client: Client, *, name: str, as_json: bool) -> None:
    """Stop NAME: new work is refused, running jobs are finished, its replicas stop."""
    _change(client, name, "stop", as_json=as_json)


@click.command(short_help="Let a stopped deployment take work again.")
@click.argument("name")
@json_option
@server_options
def start(client: Client, *, name: str, as_json: bool) -> None:
    """Let NAME take work again; it wakes when there is some."""
    _change(client, name, "start", as_json=as_json)


@click.command(short_help="Delete a deployment.")
@click.argument("name")
@yes_option
@server_options
def rm(client: Client, *, name: str, yes: bool) -> None:
    """Delete the deployment NAME: its open jobs are canceled, its replicas stop."""
    client.deployment(name)
    confirm(f"Delete the deployment '{name}'?", yes=yes)
    client.delete_deployment(name)
    render.say(f"{name} is deleted")


def _list(client: Client, *, as_json: bool) -> None:
    answer = client.deployments()
    if as_json:
        render.emit_json(answer.json)
        return
    if answer.value.deployments:
        render.show(deployments_table(answer.value.deployments, utc_now()))
    else:
        render.say("nothing is deployed yet; try `comfyserve deploy demo --engine embedded`")


def _change(client: Client, name: str, verb: str, *, as_json: bool) -> None:
    answer = client.change_deployment(name, verb)
    if as_json:
        render.emit_json(answer.json)
    else:
        render.say(f"{name} is {answer.value.status}")
