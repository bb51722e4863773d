"""`deploy FILE.py:NAME`: what is declared in code becomes a deployment."""

from collections.abc import Mapping
from dataclasses import fields

import click

from comfyserve.cli import render
from comfyserve.cli.deploy_spec import Order
from comfyserve.domain.errors import InvalidInput
from comfyserve.sdk.app import App, asgi
from comfyserve.sdk.client import connect
from comfyserve.sdk.deploying import deploy_app
from comfyserve.sdk.loading import load_handler
from comfyserve.sdk.pod import Pod, PodInstance
from comfyserve.sdk.serving import as_asgi
from comfyserve.sdk.source import Source, locate

_OF_THE_COMMAND = frozenset({"name", "as_name", "as_json"})


def deploy_code(order: Order, server: Mapping[str, str | None]) -> None:
    """Deploy the `@asgi` application or Pod that `order.name` names. `server`: its url and token.

    Raises click.UsageError for options that belong into the code, and what loading it raises.
    """
    for field in fields(Order):
        if field.name not in _OF_THE_COMMAND and getattr(order, field.name) not in (
            None,
            (),
            False,
        ):
            option = f"--{field.name.replace('_', '-')}"
            raise click.UsageError(
                f"{option} goes with a NAME; for {order.name} write it into the code"
            )
    source = locate(order.name)
    found = load_handler(source)
    deployed = _deploy(found, source, order.as_name, server)
    if order.as_json:
        render.emit_json(
            {"name": deployed.name, "url": deployed.url, "revision": deployed.revision}
        )
        return
    revision = "" if deployed.revision == 1 else f", revision {deployed.revision}"
    render.say(f"{deployed.name} is deployed{revision}", style="bold green")
    render.emit(deployed.url)


def _deploy(
    found: object, source: Source, name: str | None, server: Mapping[str, str | None]
) -> PodInstance:
    client = connect(server.get("url"), server.get("token"))
    if isinstance(found, Pod):
        return found.deploy(name, client=client)
    if isinstance(found, App):
        return deploy_app(found, source, name, client)
    try:
        as_asgi(found, source.handler)
    except InvalidInput as error:
        raise InvalidInput(
            f"{source.handler} is neither an @asgi application nor a Pod nor any ASGI application, "
            f"but {type(found).__name__}",
            code="not_deployable",
        ) from error
    # An application that was made at import: it takes the defaults, and its own name if it says so.
    attribute = source.handler.rpartition(":")[2].replace("_", "-").lower()
    app = asgi(name or attribute)(lambda: found)
    return deploy_app(app, source, name, client)
