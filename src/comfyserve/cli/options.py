"""Options that commands share. Every option can be given in the environment, as its help says."""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from comfyserve.cli.client import Client, connect
from comfyserve.cli.errors import Interrupted
from comfyserve.cli.option import option

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

json_option = option(
    "--json", "as_json", is_flag=True, envvar="COMFYSERVE_JSON", help="Print JSON on stdout."
)
yes_option = option(
    "--yes", "-y", is_flag=True, envvar="COMFYSERVE_YES", help="Do not ask before doing it."
)
deployment_option = option(
    "--deployment",
    "-d",
    metavar="NAME",
    envvar="COMFYSERVE_DEPLOYMENT",
    help="Only this deployment.",
)


def server_options(command: Callable[Concatenate[Client, P], R]) -> Callable[..., R]:
    """Give a command `--url` and `--token`, and the client that they make."""

    @option(
        "--url",
        metavar="URL",
        envvar="COMFYSERVE_URL",
        help="Where the server is, http://HOST:PORT.",
    )
    @option(
        "--token",
        metavar="SECRET",
        envvar="COMFYSERVE_TOKEN",
        help="The token to show to the server.",
    )
    @functools.wraps(command)
    def connected(url: str | None, token: str | None, *args: P.args, **kwargs: P.kwargs) -> R:
        return command(connect(url, token), *args, **kwargs)

    return connected


def gather(kind: type[T]) -> Callable[[Callable[[Client, T], R]], Callable[..., R]]:
    """Give a command its options as one value of `kind`, whose fields are their names."""

    def decorate(command: Callable[[Client, T], R]) -> Callable[..., R]:
        @functools.wraps(command)
        def gathered(client: Client, **given: Any) -> R:  # noqa: ANN401 - checked by `kind`
            return command(client, kind(**given))

        return gathered

    return decorate


def pairs(texts: Sequence[str], what: str) -> dict[str, str]:
    """Read KEY=VALUE texts. Raises click.BadParameter for one without a key."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"'{text}' is not {what}")
        found[key] = value
    return found


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone. Raises UsageError where nobody can answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody can be asked here: confirm with --yes.")
    if not click.confirm(question, err=True):
        raise Interrupted("nothing was changed")
