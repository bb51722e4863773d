"""The server in the background: `server status|stop`."""

import click

from comfyserve.cli import render
from comfyserve.cli.option import option
from comfyserve.cli.options import json_option
from comfyserve.domain.errors import NotFound
from comfyserve.sdk.local_server import LocalServer, answers, find_local, stop_local
from comfyserve.settings import Settings, load_settings

_home_option = option(
    "--home",
    metavar="DIR",
    envvar="COMFYSERVE_HOME",
    help="The home whose server is meant. Default: the user's own.",
)


@click.group(short_help="Show or stop the server in the background.")
def server() -> None:
    """The server of this machine, also one that a script of yours started in the background."""


@server.command("status", short_help="Show the server of a home.")
@_home_option
@json_option
def server_status(*, home: str | None, as_json: bool) -> None:
    """Show where the server of the home listens, its process and its log."""
    settings = load_settings(home=home)
    found = _found(settings)
    state = "ready" if answers(found) else "starting"
    facts = {
        "state": state,
        "url": found.url,
        "pid": found.pid,
        "home": str(found.home),
        "log": str(found.log),
    }
    if as_json:
        render.emit_json(facts)
        return
    render.show(render.facts([(name, str(value)) for name, value in facts.items()]))


@server.command("stop", short_help="Stop the server of a home.")
@_home_option
def server_stop(*, home: str | None) -> None:
    """Stop the server of the home: running jobs may end, what is stored stays."""
    settings = load_settings(home=home)
    _found(settings)
    stopped = stop_local(settings.home_path)
    if stopped is not None:
        render.say(f"the server at {stopped.url or stopped.home} has stopped")


def _found(settings: Settings) -> LocalServer:
    found = find_local(settings.home_path)
    if found is None:
        raise NotFound(
            f"no server runs on the home {settings.home_path}; start one with `comfyserve serve`",
            code="no_server",
        )
    return found
