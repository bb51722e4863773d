"""`serve`: run the server in this process."""

import threading
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any

import click

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.options import option
from comfyserve.domain.errors import ComfyserveError
from comfyserve.sdk.transport import Transport
from comfyserve.settings import ENV_PREFIX, Settings, load_settings

_OF_THE_CLIENT = frozenset({"url", "token"})
_METAVARS = {"s": "SECONDS", "failures": "N", "home": "DIR", "db": "URL", "prices": "GPU=PRICE,..."}
_DEFAULTS = Settings()


def _settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Make an option of every setting of a server: one table, one meaning everywhere."""
    for field in reversed(fields(Settings)):
        if field.name not in _OF_THE_CLIENT:
            command = _option_of(field)(command)
    return command


def _option_of(field: Field[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    default = getattr(_DEFAULTS, field.name)
    name, env = f"--{field.name.replace('_', '-')}", ENV_PREFIX + field.name.upper()
    text: str = field.metadata["help"]
    sentence = f"{text[0].upper()}{text[1:]}."
    if isinstance(default, bool):
        return option(name, field.name, is_flag=True, default=None, envvar=env, help=sentence)
    if default not in ("", {}):
        is_whole = isinstance(default, float) and default.is_integer()
        sentence += f" Default: {int(default) if is_whole else default}."
    return option(
        name,
        field.name,
        type=type(default) if isinstance(default, int | float) else str,
        default=None,
        envvar=env,
        metavar=_METAVARS.get(field.name.rpartition("_")[2], field.name.rpartition("_")[2].upper()),
        help=sentence,
    )


@click.command(short_help="Run the server.")
@_settings_options
def serve(**given: Any) -> None:  # noqa: ANN401 - checked by the settings
    """Run the server: gateway and runtime in one process, until Ctrl-C.

    Prints its URL on stdout once it listens. What is not given as an option is read from the
    environment, then from the file that COMFYSERVE_CONFIG names or config.toml in the user's
    configuration directory.
    """
    settings = load_settings(**given)

    # Here, not at the top: this is the only command that needs the server's modules.
    import uvloop

    from comfyserve import server

    def on_ready(url: str) -> None:
        render.emit(url)
        # In a thread: it asks the server, which is waiting for us to return.
        threading.Thread(target=_introduce, args=(url, settings), daemon=True).start()

    uvloop.run(server.serve(settings, on_ready=on_ready))


def _introduce(url: str, settings: Settings) -> None:
    render.say(f"comfyserve listens at {url}, home {settings.home_path}", style="bold")
    if settings.public is not None and settings.public.url:
        render.say(f"and is public at {settings.public.url}, with NAME. in front for a deployment")
    try:
        deployments = Client(Transport(url, settings.token)).deployments().value.deployments
    except ComfyserveError:
        return  # from this address a token is needed
    if not deployments:
        render.say("nothing is deployed yet; try `comfyserve deploy demo --engine embedded`")
    for item in deployments:
        render.say(f"  {item.name}: {item.status}, {item.url}")
