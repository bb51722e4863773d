"""Replicas: `replica list|stop`."""

import click

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.option import option
from comfyserve.cli.options import deployment_option, json_option, server_options
from comfyserve.cli.tables import replicas_table
from comfyserve.cli.units import utc_now


@click.group(short_help="List and stop replicas.")
def replica() -> None:
    """Replicas: running copies of a deployment's engine."""


@replica.command("list", short_help="List replicas.")
@deployment_option
@option("--all", "ended", is_flag=True, help="Those that have ended too.")
@json_option
@server_options
def list_replicas(client: Client, *, deployment: str | None, ended: bool, as_json: bool) -> None:
    """List the replicas that live: state, cause, since when, where."""
    answer = client.replicas(deployment=deployment, ended=ended)
    if as_json:
        render.emit_json(answer.json)
    elif answer.value.replicas:
        render.show(replicas_table(answer.value.replicas, utc_now()))
    else:
        render.say("no replicas" if ended else "no replicas: everything is asleep")


@replica.command("stop", short_help="Stop one replica.")
@click.argument("replica_id", metavar="REPLICA")
@json_option
@server_options
def stop_replica(client: Client, *, replica_id: str, as_json: bool) -> None:
    """Stop REPLICA. A job that runs on it is tried again on another one."""
    answer = client.stop_replica(replica_id)
    if as_json:
        render.emit_json(answer.json)
    else:
        render.say(f"{replica_id} is {answer.value.state}")
