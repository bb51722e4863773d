"""Builds: `build IMAGE`, and `build list|show|logs|cancel|prune`."""

from urllib.parse import quote

import click
from rich.text import Text

from comfyserve.cli import render
from comfyserve.cli.build_answers import Build, Builds, Pruned
from comfyserve.cli.client import Client
from comfyserve.cli.option import option
from comfyserve.cli.options import confirm, json_option, server_options, yes_option
from comfyserve.cli.units import ago_text, count_text, duration_text, size_text, utc_now

_IMAGE = "image"
_DAY_S = 24 * 3600.0


class BuildGroup(click.Group):
    """Without one of its verbs, what follows is an image to build."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `build FILE.py:image` as `build image FILE.py:image`."""
        words = [word for word in args if not word.startswith("-")]
        if words and words[0] not in self.commands and "--help" not in args:
            args.insert(0, _IMAGE)
        return super().parse_args(ctx, args)


@click.group(
    cls=BuildGroup,
    short_help="Build an image, list and prune builds.",
    subcommand_metavar="IMAGE | COMMAND [ARGS]...",
)
def build() -> None:
    """Build the image IMAGE: FILE.py:NAME (an Image, or what has one), or a spec.json.

    Steps that an earlier build has done are reused. The digest is printed on stdout; deployments name
    it: `comfyserve deploy NAME --image FILE.py:NAME` does both. See `comfyserve build image --help`.
    """


@build.command(_IMAGE, short_help="Build an image (the word can be left out).")
@click.argument("image", metavar="IMAGE")
@option("--no-cache", is_flag=True, help="Do all steps again.")
@option("--detach", is_flag=True, help="Do not wait; print the id of the build.")
@option("--quiet", "-q", is_flag=True, help="Do not show the log.")
@json_option
@option("--url", metavar="URL", envvar="COMFYSERVE_URL", help="Where the server is.")
@option("--token", metavar="SECRET", envvar="COMFYSERVE_TOKEN", help="The token to show to it.")
def build_image(  # noqa: PLR0913 - each is an option
    *,
    image: str,
    no_cache: bool,
    detach: bool,
    quiet: bool,
    as_json: bool,
    url: str | None,
    token: str | None,
) -> None:
    """Build IMAGE: FILE.py:NAME, or a spec.json. Where no server is configured, one is started."""
    # Here, not at the top: it loads the user's code.
    from comfyserve.cli.building import Wish, build_now

    wish = Wish(image, no_cache=no_cache, detach=detach, quiet=quiet or as_json)
    document = build_now(wish, {"url": url, "token": token})
    if as_json:
        render.emit_json(document)
    elif detach:
        render.emit(str(document["id"]))
    else:
        render.emit(str(document["digest"]))


@build.command("list", short_help="List the builds.")
@option("--limit", "-n", type=click.IntRange(1, 500), default=50, help="How many. Default: 50.")
@json_option
@server_options
def list_builds(client: Client, *, limit: int, as_json: bool) -> None:
    """List builds, newest first."""
    answer = client.ask("GET", "/builds", Builds, query={"limit": limit})
    if as_json:
        render.emit_json(answer.json)
        return
    if not answer.value.builds:
        render.say("nothing was built yet; try `comfyserve build FILE.py:image`")
        return
    table = render.columns("ID", "IMAGE", "STATE", "CREATED", "TOOK", "SIZE", right=("SIZE",))
    for item in answer.value.builds:
        table.add_row(
            item.id,
            item.digest[:12],
            _state(item),
            ago_text(item.created_at, utc_now()),
            "" if item.duration_s is None else duration_text(item.duration_s),
            size_text(item.size_bytes) if item.size_bytes else "",
        )
    render.show(table)


@build.command("show", short_help="Show a build and what it resolved.")
@click.argument("build_id", metavar="BUILD")
@json_option
@server_options
def show_build(client: Client, *, build_id: str, as_json: bool) -> None:
    """Show the build with the id BUILD: state, size, what was resolved, import times."""
    answer = client.ask("GET", _path(build_id), Build)
    if as_json:
        render.emit_json(answer.json)
        return
    item = answer.value
    rows: list[tuple[str, str | Text]] = [
        ("build", item.id),
        ("image", item.digest),
        ("state", Text(item.state, "bold")),
        ("created", ago_text(item.created_at, utc_now())),
        ("took", "" if item.duration_s is None else duration_text(item.duration_s)),
        ("size", size_text(item.size_bytes) if item.size_bytes else ""),
        ("why", item.message),
    ]
    rows += [("warning", warning) for warning in item.warnings]
    rows += sorted(item.lock.items())
    slowest = sorted(item.import_times.items(), key=lambda pair: -pair[1])
    rows += [(f"import of {name}", duration_text(seconds)) for name, seconds in slowest]
    render.show(render.facts(rows))
    for line in item.log_tail:
        render.say(f"  {line}")


@build.command("logs", short_help="Show the log of a build.")
@click.argument("build_id", metavar="BUILD")
@option(
    "--tail", "-n", type=click.IntRange(0, 100_000), default=100_000, help="Only the last lines."
)
@option("--follow", "-f", is_flag=True, help="Go on until the build ends.")
@server_options
def build_logs(client: Client, *, build_id: str, tail: int, follow: bool) -> None:
    """Show what the build with the id BUILD wrote."""
    render.emit_bytes(client.logs("builds", build_id, tail=tail, follow=follow))


@build.command("cancel", short_help="Cancel a build.")
@click.argument("build_id", metavar="BUILD")
@json_option
@server_options
def cancel_build(client: Client, *, build_id: str, as_json: bool) -> None:
    """End the build with the id BUILD; what earlier steps made is kept for the next one."""
    answer = client.ask("POST", f"{_path(build_id)}/cancel", Build)
    if as_json:
        render.emit_json(answer.json)
    else:
        render.say(f"{build_id} is {answer.value.state}")


@build.command("prune", short_help="Remove images that no deployment needs.")
@option(
    "--unused-for",
    metavar="DAYS",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Only what was not used for so long. Default: 0.",
)
@option("--models", is_flag=True, help="Model files that no kept image refers to, too.")
@json_option
@yes_option
@server_options
def prune_builds(
    client: Client, *, unused_for: float, models: bool, as_json: bool, yes: bool
) -> None:
    """Remove built images that no revision of a deployment names, and layers that only they need."""
    confirm("Remove the built images that no deployment names?", yes=yes)
    query = {"unused_for_s": unused_for * _DAY_S, "models": "true" if models else None}
    answer = client.ask("POST", "/builds:prune", Pruned, query=query, timeout_s=600.0)
    if as_json:
        render.emit_json(answer.json)
        return
    gone = answer.value
    render.say(
        f"removed {count_text(gone.images, 'image')}, {count_text(gone.layers, 'layer')} and "
        f"{count_text(gone.models, 'model')}: {size_text(gone.freed_bytes)}"
    )


def _path(build_id: str) -> str:
    return f"/builds/{quote(build_id, safe='')}"


def _state(item: Build) -> Text:
    styles = {"succeeded": "green", "running": "cyan", "queued": "yellow", "failed": "bold red"}
    where = f" {item.progress.step}/{item.progress.steps}" if item.progress else ""
    return Text(item.state + where, styles.get(item.state, ""))
