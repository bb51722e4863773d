"""Volumes: `volume create|list|delete|ls|cp|mv|rm`."""

from dataclasses import dataclass
from datetime import datetime
from types import NoneType
from typing import Any

import click
from rich.text import Text

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.errors import Refused
from comfyserve.cli.option import option
from comfyserve.cli.options import confirm, json_option, server_options, yes_option
from comfyserve.cli.units import ago_text, count_text, size_text, utc_now
from comfyserve.cli.volume_copy import copy
from comfyserve.cli.volume_files import Place, VolumeFiles, need_place
from comfyserve.domain.volume import check_volume_name


@dataclass(frozen=True, slots=True)
class Shown:
    """What the server tells of a volume."""

    id: str
    name: str
    created_at: datetime
    deployments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Volumes:
    """All volumes, and the room that is left for them."""

    volumes: tuple[Shown, ...]
    free_bytes: int


_recursive_option = option(
    "--recursive",
    "-r",
    is_flag=True,
    envvar="COMFYSERVE_VOLUME_RECURSIVE",
    help="Directories too, with all that is in them.",
)
_force_option = option(
    "--force",
    "-f",
    is_flag=True,
    envvar="COMFYSERVE_VOLUME_FORCE",
    help="Replace files that are there already.",
)


@click.group(short_help="Make, list, fill and delete volumes.")
def volume() -> None:
    """Volumes: named directories that outlive replicas. A path on one is NAME:/path."""


@volume.command("create", short_help="Make a volume.")
@click.argument("name")
@server_options
def create_volume(client: Client, *, name: str) -> None:
    """Make the volume NAME; one that is there already stays as it is.

    A deployment that mounts a volume makes it too.
    """
    client.ask("PUT", f"/volumes/{check_volume_name(name)}", Shown)
    render.say(f"{name} is there; fill it with `comfyserve volume cp FILE {name}:/`")


@volume.command("list", short_help="List the volumes.")
@json_option
@server_options
def list_volumes(client: Client, *, as_json: bool) -> None:
    """List all volumes and who mounts them."""
    answer = client.ask("GET", "/volumes", Volumes)
    if as_json:
        render.emit_json(answer.json)
        return
    if not answer.value.volumes:
        render.say("no volumes; make one with `comfyserve volume create NAME`")
        return
    now = utc_now()
    table = render.columns("NAME", "ID", "CREATED", "DEPLOYMENTS")
    for item in answer.value.volumes:
        users = Text(", ".join(item.deployments))
        table.add_row(Text(item.name), item.id, ago_text(item.created_at, now), users)
    render.show(table)
    render.say(f"{size_text(answer.value.free_bytes)} are free")


@volume.command("delete", short_help="Delete a volume with all its files.")
@click.argument("name")
@yes_option
@server_options
def delete_volume(client: Client, *, name: str, yes: bool) -> None:
    """Delete the volume NAME with all its files; no deployment may mount it."""
    check_volume_name(name)
    confirm(f"Delete the volume '{name}' with all its files?", yes=yes)
    client.ask("DELETE", f"/volumes/{name}", NoneType)
    render.say(f"{name} is deleted")


@volume.command("ls", short_help="List what lies on a volume.")
@click.argument("paths", metavar="NAME[:/PATH]...", nargs=-1, required=True)
@json_option
@server_options
def list_files(client: Client, *, paths: tuple[str, ...], as_json: bool) -> None:
    """List directories of volumes. The paths may be patterns: 'weights:/loras/*.safetensors'."""
    files = VolumeFiles(client)
    rows: list[dict[str, Any]] = []
    table, now = render.columns("PATH", "SIZE", "CHANGED", right=("SIZE",)), utc_now()
    for place in (found for path in paths for found in files.expand(need_place(path))):
        page = files.look(place)
        for entry in page.entries:
            where = place.below(entry.name) if page.kind == "directory" else place
            mark = {"directory": "/", "link": "@"}.get(entry.kind, "")
            size = size_text(entry.size_bytes) if entry.kind == "file" else ""
            table.add_row(Text(f"{where}{mark}"), size, ago_text(entry.modified_at, now))
            rows.append(
                {
                    "path": str(where),
                    "kind": entry.kind,
                    "size_bytes": entry.size_bytes,
                    "modified_at": entry.modified_at.isoformat(),
                }
            )
    if as_json:
        render.emit_json({"entries": rows})
    elif rows:
        render.show(table)
    else:
        render.say("nothing lies there")


@volume.command("cp", short_help="Copy files to a volume, or from one.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.argument("target")
@_recursive_option
@_force_option
@server_options
def copy_files(
    client: Client, *, sources: tuple[str, ...], target: str, recursive: bool, force: bool
) -> None:
    """Copy local files to a volume, or files of a volume here; NAME:/path is on a volume.

    An existing directory, or a TARGET that ends with '/', takes the files under their own names. A
    copy that broke goes on where it was when the same command is given again.
    """
    done = copy(VolumeFiles(client), sources, target, recursive=recursive, force=force)
    render.say(f"{count_text(done.files, 'file')} copied, {size_text(done.size_bytes)}")


@volume.command("mv", short_help="Move or rename files on a volume.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.argument("target")
@_force_option
@server_options
def move_files(client: Client, *, sources: tuple[str, ...], target: str, force: bool) -> None:
    """Give files or directories another place on the same volume."""
    files, wanted = VolumeFiles(client), need_place(target)
    found = [item for source in sources for item in files.expand(need_place(source))]
    for item in found:
        if item.volume != wanted.volume:
            raise Refused(
                f"{item} and {wanted} are different volumes: fetch it with `volume cp` and send it"
            )
    into = target.endswith("/") or files.is_directory(wanted)
    if len(found) > 1 and not into:
        raise click.UsageError(f"{wanted} is no directory, and there are several sources")
    for item in found:
        files.move(item, wanted.below(item.name) if into else wanted, overwrite=force)
    render.say(f"{count_text(len(found), 'path')} moved")


@volume.command("rm", short_help="Delete files of a volume.")
@click.argument("paths", metavar="NAME:/PATH...", nargs=-1, required=True)
@_recursive_option
@yes_option
@server_options
def remove_files(client: Client, *, paths: tuple[str, ...], recursive: bool, yes: bool) -> None:
    """Delete files of volumes, and with --recursive directories."""
    files = VolumeFiles(client)
    found: list[Place] = [item for path in paths for item in files.expand(need_place(path))]
    for item in found:
        if item.path == "/":
            raise click.UsageError(
                f"{item} is the volume itself: `comfyserve volume delete {item.volume}`"
            )
    shown = str(found[0]) if len(found) == 1 else count_text(len(found), "path")
    confirm(f"Delete {shown}?", yes=yes)
    for item in found:
        files.remove(item, recursive=recursive)
    render.say(f"{count_text(len(found), 'path')} deleted")
