"""`serve-dev FILE.py:NAME`: a deployment that follows the file while it is edited."""

import subprocess
import sys

import click

from comfyserve.cli import render
from comfyserve.cli.errors import CommandError
from comfyserve.cli.option import option
from comfyserve.domain.spec import check_name
from comfyserve.sdk.client import Client, connect
from comfyserve.sdk.source import Source, locate


@click.command("serve-dev", short_help="Deploy code, again at each save.")
@click.argument("handler", metavar="FILE:NAME")
@option("--name", metavar="NAME", help="The deployment's name. Default: the handler's, and -dev.")
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
def serve_dev(*, handler: str, name: str | None, url: str | None, token: str | None) -> None:
    """Deploy the handler, and again whenever a file around it is saved. Its URL stays.

    What does not start is told, and what was served before goes on. Ctrl-C ends it and deletes
    the deployment.
    """
    from watchfiles import PythonFilter, watch

    source = locate(handler)
    attribute = source.handler.rpartition(":")[2].rpartition(".")[2]
    chosen = check_name(name or f"{attribute.replace('_', '-').lower()}-dev")
    client = connect(url, token)
    try:
        if not _deploy(handler, chosen, client, token):
            raise CommandError(f"{handler} does not start; mend it and try again")
        render.emit(client.deployment(chosen).url)
        render.say(f"watching {source.directory}; Ctrl-C ends it", style="dim")
        for _ in watch(source.directory, watch_filter=PythonFilter(extra_extensions=_ALSO)):
            _deploy(handler, chosen, client, token)
    except KeyboardInterrupt:
        render.say("ending")
    finally:
        _delete(client, chosen, source)


_ALSO = (".json", ".toml", ".txt", ".html", ".yaml", ".yml")


def _deploy(handler: str, name: str, client: Client, token: str | None) -> bool:
    """In a process of its own: a module is imported once in each."""
    argv = [sys.executable, "-m", "comfyserve.cli.main", "deploy", handler]
    argv += ["--name", name, "--url", client.url, *(["--token", token] if token else [])]
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, check=False)  # noqa: S603 - ours
    return done.returncode == 0


def _delete(client: Client, name: str, source: Source) -> None:
    from comfyserve.domain.errors import NotFound

    try:
        client.delete(name)
    except NotFound:
        render.say(f"{source.handler} was not deployed")
