"""`deploy`: create a deployment, or give it a new revision."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from comfyserve.cli import render
from comfyserve.cli.answers import Deployment
from comfyserve.cli.client import Client
from comfyserve.cli.deploy_spec import Order, make_spec
from comfyserve.cli.option import option
from comfyserve.cli.options import gather, json_option, server_options
from comfyserve.domain.spec import DeploymentSpec, EngineKind

_DEFAULTS = DeploymentSpec()
_SLACK_S = 120.0
"""What a deploy may take on top of the engine's start: its checks, its questions, its stop."""


@click.command(short_help="Create a deployment, or give it a new revision.")
@click.argument("name")
@option(
    "--name",
    "as_name",
    metavar="NAME",
    help="The name of what is deployed from code, FILE.py:NAME. Default: as it is declared.",
)
@option(
    "--engine",
    type=click.Choice([EngineKind.EMBEDDED.value, EngineKind.COMFYUI.value]),
    help="What a replica runs; comfyui where --comfyui-dir is given.",
)
@option(
    "--comfyui-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The ComfyUI installation: the directory that holds main.py.",
)
@option(
    "--image",
    metavar="IMAGE",
    help="Build this image and deploy it: FILE.py:NAME, spec.json, or the digest of a built one.",
)
@option(
    "--check",
    "checks",
    metavar="WORKFLOW",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Deploy only if this workflow can run: its classes import, its models are there. Repeatable.",
)
@option(
    "--python",
    metavar="PATH",
    help="The Python that has ComfyUI's requirements; else a venv in or beside DIR, else python3.",
)
@option("--cpu", is_flag=True, help="Run without a GPU.")
@option("--gpu", metavar="TYPE", help="Type of GPU that a replica needs: H100, L40S, any.")
@option("--gpus", metavar="N", type=click.IntRange(min=1), help="How many GPUs a replica needs.")
@option(
    "--arg",
    "args",
    metavar="ARG",
    multiple=True,
    help="Passed to the engine as it is: --arg=--lowvram. Repeatable.",
)
@option(
    "--env",
    metavar="KEY=VALUE",
    multiple=True,
    help="Environment of the engine, which is otherwise clean. Repeatable.",
)
@option(
    "--volume",
    "volumes",
    metavar="NAME:PATH",
    multiple=True,
    help="Mount a volume, made if it is new: weights:models/checkpoints. Repeatable.",
)
@option(
    "--secret",
    "secrets",
    metavar="NAME",
    multiple=True,
    help="Put this secret into the environment of the engine. Repeatable.",
)
@option(
    "--min-replicas",
    metavar="N",
    type=click.IntRange(min=0),
    help=f"Replicas that stay awake without work. Default: {_DEFAULTS.scaling.min_replicas}.",
)
@option(
    "--max-replicas",
    metavar="N",
    type=click.IntRange(min=1),
    help=f"Replicas at most. Default: {_DEFAULTS.scaling.max_replicas}.",
)
@option(
    "--idle-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help=f"A replica without work for so long is stopped. Default: {_DEFAULTS.scaling.idle_timeout_s:g}.",
)
@option(
    "--start-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help=f"Longest start of the engine. Default: {_DEFAULTS.timeouts.start_s:g}.",
)
@option(
    "--job-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help=f"Longest attempt at a job. Default: {_DEFAULTS.timeouts.job_s:g}.",
)
@option(
    "--queue-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="Longest wait of a job before it expires. Default: no end.",
)
@option(
    "--max-queue",
    metavar="N",
    type=click.IntRange(min=1),
    help=f"Jobs that may wait; more are refused with 429. Default: {_DEFAULTS.limits.max_queue}.",
)
@option(
    "--max-attempts",
    metavar="N",
    type=click.IntRange(min=1),
    help=f"Attempts at a job whose replica dies. Default: {_DEFAULTS.limits.max_attempts}.",
)
@option(
    "--max-upload-bytes",
    metavar="BYTES",
    type=click.IntRange(min=1),
    help=f"Largest upload. Default: {_DEFAULTS.limits.max_upload_bytes}.",
)
@option(
    "--port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    help="Serve the deployment on a port of its own too.",
)
@option(
    "--allow-route",
    "allow_routes",
    metavar="ROUTE",
    multiple=True,
    help="Let a route of the engine through that is closed by default. Repeatable.",
)
@json_option
@server_options
@gather(Order)
def deploy(client: Client, order: Order) -> None:
    """Create the deployment NAME, or give it a new revision with exactly these options.

    NAME can also be a place in code, api.py:handler: an @asgi application or a Pod, whose options
    are in the code. Where no server is configured, one is started in the background.

    The engine is started once, asked what it is, and stopped again; one that cannot start is
    refused, with the end of its log, and what was deployed before stays as it is.
    """
    if ":" in order.name:
        # Here, not at the top: it loads the user's code.
        from comfyserve.cli.deploy_code import deploy_code

        given = click.get_current_context().params
        deploy_code(order, {"url": given["url"], "token": given["token"]})
        return
    if order.as_name is not None:
        raise click.UsageError("--name goes with code: deploy api.py:handler --name NAME")
    spec = make_spec(_with_built(client, order))
    start_s = order.start_timeout or _DEFAULTS.timeouts.start_s
    with render.busy(f"deploying {order.name}: starting its engine once"):
        answer = client.deploy(order.name, spec, start_s + _SLACK_S)
    deployed = answer.value
    for warning in (*deployed.warnings, *_unsaid(order, deployed)):
        render.warn(warning)
    if order.as_json:
        render.emit_json(answer.json)
        return
    classes = len(client.object_info(order.name))
    revision = "" if deployed.revision == 1 else f", revision {deployed.revision}"
    render.say(f"{deployed.name} is deployed and {deployed.status}{revision}", style="bold green")
    engine = f"{deployed.engine} {deployed.engine_version}".strip()
    render.say_table(render.facts((("engine", engine), ("node classes", str(classes)))))
    render.emit(deployed.url)


def _with_built(client: Client, order: Order) -> Order:
    """The order with its image built; what it names by its digest is taken as it is."""
    if order.image is None or re.fullmatch(r"[0-9a-f]{64}", order.image):
        return order
    make_spec(order)  # What is wrong with it is said before anything is built.
    # Here, not at the top: it loads the user's code.
    from comfyserve.cli.building import Wish, build_now

    server = {"url": client.url, "token": click.get_current_context().params["token"]}
    built = build_now(Wish(order.image, quiet=order.as_json), server)
    return replace(order, image=str(built["digest"]))


def _unsaid(order: Order, deployed: Deployment) -> Iterator[str]:
    """What the user may not expect because they did not say it."""
    resources = deployed.spec.get("resources") or {}
    if deployed.engine == EngineKind.COMFYUI and not order.cpu and not resources.get("gpus"):
        yield "it runs on the CPU; for a GPU deploy with --gpu any, else say --cpu"
