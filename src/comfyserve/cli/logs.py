"""`logs`: what an engine wrote."""

import click

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.option import option
from comfyserve.cli.options import server_options
from comfyserve.domain.ids import Prefix


@click.command(short_help="Show the log of a deployment or replica.")
@click.argument("name")
@option(
    "--tail",
    "-n",
    metavar="LINES",
    type=click.IntRange(min=0),
    default=200,
    help="How many of the last lines. Default: 200.",
)
@option("--follow", "-f", is_flag=True, help="Go on until the replica ends.")
@server_options
def logs(client: Client, *, name: str, tail: int, follow: bool) -> None:
    """Show the log of NAME: a replica's id (rp_...), or a deployment, for its newest replica."""
    is_replica = name.startswith(f"{Prefix.REPLICA}_")
    kind = "replicas" if is_replica else "deployments"
    render.emit_bytes(client.logs(kind, name, tail=tail, follow=follow))
