"""From the options of `deploy` to the spec that is sent."""

import base64
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from comfyserve.cli.options import pairs
from comfyserve.domain.errors import NotFound
from comfyserve.domain.spec import EngineKind


@dataclass(frozen=True, slots=True)
class Order:
    """What was typed; None where the server's default holds."""

    name: str
    as_name: str | None
    engine: str | None
    comfyui_dir: Path | None
    image: str | None
    checks: tuple[Path, ...]
    python: str | None
    cpu: bool
    gpu: str | None
    gpus: int | None
    args: tuple[str, ...]
    env: tuple[str, ...]
    secrets: tuple[str, ...]
    volumes: tuple[str, ...]
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
        "secrets": list(dict.fromkeys(order.secrets)),
        "volumes": [_volume(text) for text in order.volumes],
        "checks": [_check(path) for path in order.checks],
    }
    return {key: value for key, value in spec.items() if value not in ({}, [], None)}


def _engine(order: Order) -> dict[str, Any]:
    if order.engine is None and order.comfyui_dir is None and order.image is None:
        raise click.UsageError(
            "say what to run: --comfyui-dir DIR, --image FILE.py:NAME, or --engine embedded"
        )
    kind = EngineKind(order.engine or EngineKind.COMFYUI)
    if kind is EngineKind.COMFYUI and order.comfyui_dir is None and order.image is None:
        raise click.UsageError("--engine comfyui needs --comfyui-dir DIR or --image FILE.py:NAME")
    if kind is EngineKind.EMBEDDED and (order.comfyui_dir or order.python or order.image):
        raise click.UsageError("--engine embedded goes without --comfyui-dir, --python and --image")
    if order.image and (order.comfyui_dir or order.python):
        raise click.UsageError(
            "--image brings its own ComfyUI: leave out --comfyui-dir and --python"
        )
    return _given(
        kind=kind.value,
        image=order.image,
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


def _check(path: Path) -> dict[str, str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotFound(f"--check: '{path}' cannot be read: {error.strerror}") from error
    return {"name": path.name, "data": base64.b64encode(data).decode()}


def _volume(text: str) -> dict[str, str]:
    name, colon, path = text.partition(":")
    if not (name and colon and path):
        raise click.UsageError(
            f"--volume takes NAME:PATH, as in weights:models/checkpoints, not '{text}'"
        )
    if "://" in text:
        raise click.UsageError(
            f"'{text}' is a bucket, which no engine of this version can mount: copy what is needed "
            "to a volume, with `comfyserve volume cp`"
        )
    return {"name": name, "mount_path": path}


def _given(**values: object) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
