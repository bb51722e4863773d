"""`serve`: run the server in this process."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field, fields
from typing import Any

import click

from comfyserve.cli.option import option
from comfyserve.settings import ENV_PREFIX, Settings, load_settings

_OF_THE_CLIENT = frozenset({"url", "token"})
_METAVARS = {"s": "SECONDS", "failures": "N", "home": "DIR", "db": "URL", "prices": "GPU=PRICE,..."}
_DEFAULTS = Settings()
# By structlog, for a way to print that no server uses; by uvicorn, to reload; by FastAPI, for models
# of another time: 8 MB.
_TAKEN_ALONG = ("rich", "watchfiles", "pydantic.v1")


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

    def on_ready(ready: "server.Ready") -> None:
        click.echo(ready.url)
        _introduce(settings, ready.url, ready.deployments)

    with _without(*_TAKEN_ALONG):
        # Here, not at the top: this is the only command that needs the server's modules.
        import uvloop

        from comfyserve import server

        uvloop.run(server.serve(settings, on_ready=on_ready))


@contextmanager
def _without(*modules: str) -> Iterator[None]:
    """Imports do not find `modules` meanwhile: libraries that would like to have them go on without."""
    absent = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def _introduce(settings: Settings, url: str, deployments: Sequence[str]) -> None:
    _say(f"comfyserve listens at {url}, home {settings.home_path}", is_bold=True)
    if settings.public is not None and settings.public.url:
        _say(f"and is public at {settings.public.url}, with NAME. in front for a deployment")
    if not deployments:
        _say("nothing is deployed yet; try `comfyserve deploy demo --engine embedded`")
    for name in deployments:
        _say(f"  {name}: {url}/d/{name}/")


def _say(line: str, *, is_bold: bool = False) -> None:
    """Print a line of talk without rich, which `render` would bring into the server."""
    click.secho(line, err=True, bold=is_bold or None)
