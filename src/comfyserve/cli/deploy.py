"""`deploy`: create a deployment, or give it a new revision."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.options import gather, json_option, option, pairs, server_options
from comfyserve.domain.spec import DeploymentSpec, EngineKind

_DEFAULTS = DeploymentSpec()
_SLACK_S = 120.0
"""What a deploy may take on top of the engine's start: its checks, its questions, its stop."""


@dataclass(frozen=True, slots=True)
class Order:
    """What was typed; None where the server's default holds."""

    name: str
    engine: str | None
    comfyui_dir: Path | None
    python: str | None
    cpu: bool
    gpu: str | None
    gpus: int | None
    args: tuple[str, ...]
    env: tuple[str, ...]
    min_replicas: int | None
    max_replicas: int | None
    idle_timeout: float | None
    start_timeout: float | None
    job_timeout: float | None
    queue_timeout: float | None
    max_queue: int | None
    max_attempts: int | None
    max_upload_bytes: int | None
    port: int | None
    allow_routes: tuple[str, ...]
    as_json: bool


@click.command(short_help="Create a deployment, or give it a new revision.")
@click.argument("name")
@option(
    "--engine",
    type=click.Choice([kind.value for kind in EngineKind]),
    help="What a replica runs; comfyui where --comfyui-dir is given.",
)
@option(
    "--comfyui-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The ComfyUI installation: the directory that holds main.py.",
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

    The engine is started once, asked what it is, and stopped again; one that cannot start is
    refused, with the end of its log, and what was deployed before stays as it is.
    """
    spec = make_spec(order)
    start_s = order.start_timeout or _DEFAULTS.timeouts.start_s
    with render.busy(f"deploying {order.name}: starting its engine once"):
        answer = client.deploy(order.name, spec, start_s + _SLACK_S)
    deployed = answer.value
    for warning in deployed.warnings:
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


def make_spec(order: Order) -> dict[str, Any]:
    """Return the DeploySpec for what was typed. Raises click.UsageError where it contradicts itself.

    What was not given is left out, so that the server's defaults hold.
    """
    spec = {
        "engine": _engine(order),
        "resources": _resources(order),
        "scaling": _given(
            min_replicas=order.min_replicas,
            max_replicas=order.max_replicas,
            idle_timeout_s=order.idle_timeout,
        ),
        "timeouts": _given(
            start_s=order.start_timeout, job_s=order.job_timeout, queue_s=order.queue_timeout
        ),
        "limits": _given(
            max_queue=order.max_queue,
            max_attempts=order.max_attempts,
            max_upload_bytes=order.max_upload_bytes,
        ),
        "port": order.port,
        "allow_routes": list(order.allow_routes),
    }
    return {key: value for key, value in spec.items() if value not in ({}, [], None)}


def _engine(order: Order) -> dict[str, Any]:
    if order.engine is None and order.comfyui_dir is None:
        raise click.UsageError("say what to run: --comfyui-dir DIR, or --engine embedded")
    kind = EngineKind(order.engine or EngineKind.COMFYUI)
    if kind is EngineKind.COMFYUI and order.comfyui_dir is None:
        raise click.UsageError("--engine comfyui needs --comfyui-dir DIR")
    if kind is EngineKind.EMBEDDED and (order.comfyui_dir or order.python):
        raise click.UsageError("--engine embedded goes without --comfyui-dir and --python")
    return _given(
        kind=kind.value,
        comfyui_dir=None if order.comfyui_dir is None else _absolute(order.comfyui_dir),
        python=None if order.python is None else _interpreter(order.python),
        args=list(order.args) or None,
        env=pairs(order.env, "KEY=VALUE") or None,
    )


def _resources(order: Order) -> dict[str, Any]:
    if order.cpu and (order.gpu or order.gpus):
        raise click.UsageError("--cpu goes without --gpu and --gpus")
    if order.cpu:
        return {"gpu": None, "gpus": 0}
    if order.gpu or order.gpus:
        return {"gpu": order.gpu or "any", "gpus": order.gpus or 1}
    return {}


def _absolute(path: Path) -> str:
    # Not resolved: a link is followed when the engine starts, as the user would expect.
    return os.path.normpath(path.expanduser().absolute())


def _interpreter(text: str) -> str:
    if "/" in text or text.startswith("~"):
        return _absolute(Path(text))
    return shutil.which(text) or text


def _given(**values: object) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
