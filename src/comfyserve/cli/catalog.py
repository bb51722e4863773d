"""Node catalogs: `catalog export`."""

from pathlib import Path

import click

from comfyserve.cli import render
from comfyserve.cli.catalogs import bundled_object_info
from comfyserve.cli.client import Client
from comfyserve.cli.documents import write_json
from comfyserve.cli.option import option
from comfyserve.cli.options import json_option, server_options


@click.group(short_help="Save the node catalog of a deployment.")
def catalog() -> None:
    """Node catalogs: the node classes that an engine has, as its `/object_info` tells them."""


@catalog.command("export", short_help="Save the catalog of a deployment for offline use.")
@click.argument("name", required=False)
@option(
    "--out",
    "-o",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where it is saved; else it is printed.",
)
@option("--embedded", is_flag=True, help="That of the embedded engine; takes no server.")
@json_option
@server_options
def export(
    client: Client, *, name: str | None, out: Path | None, embedded: bool, as_json: bool
) -> None:
    """Print the node catalog of NAME as JSON, with the input files that lie there now.

    The `workflow` commands take it with --catalog, with no server running.
    """
    if embedded == (name is not None):
        raise click.UsageError("give the NAME of a deployment, or --embedded")
    info = bundled_object_info() if name is None else dict(client.object_info(name))
    if out is None:
        render.emit_json(info)
        return
    write_json(out, info)
    if as_json:
        render.emit_json({"saved": str(out), "classes": len(info)})
    else:
        render.say(f"{len(info)} node classes saved")
        render.emit(str(out))
