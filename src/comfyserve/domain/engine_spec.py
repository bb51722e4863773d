"""The part of a spec that says what a replica runs, and what lies around it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.volume import check_volume_name, is_model_folder

_DIGEST = re.compile(r"[0-9a-f]{64}")
_HANDLER = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class EngineKind(StrEnum):
    """Which server a replica runs."""

    EMBEDDED = "embedded"
    COMFYUI = "comfyui"
    COMMAND = "command"
    APP = "app"


PLAIN_KINDS = frozenset({EngineKind.COMMAND, EngineKind.APP})
"""Kinds that may be any HTTP server: what they are is seen when they are started once."""


@dataclass(frozen=True, slots=True)
class AppSpec:
    """A user's ASGI application: `source` is the blob digest of a tar of the code.

    `handler` says where it is in there, as `module:attribute`.
    """

    source: str
    handler: str
    workers: int = 1


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """How to start one engine process.

    `comfyui_dir` holds ComfyUI's `main.py`; `python` is the interpreter that has its requirements
    (None: a virtual environment inside the directory, else the `python3` on PATH). `args` go to
    the engine as they are; `env` is added to an otherwise clean environment.

    `command` is the argv of kind `command`; `{port}` in it stands for the port to listen on, which
    is in the variable PORT too. A command that insists on a port of its own names it as
    `container_port`. `image` is the digest of a built image whose Python and files are used.
    `ready_path` is asked at the start until it answers 2xx or 3xx (None: until `/` answers at all).
    """

    kind: EngineKind = EngineKind.EMBEDDED
    comfyui_dir: str | None = None
    python: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    container_port: int | None = None
    image: str | None = None
    app: AppSpec | None = None
    ready_path: str | None = None


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A volume, and where it appears: a path below the replica's working directory."""

    name: str
    mount_path: str


def takes_any_port(engine: EngineSpec) -> bool:
    """Whether the server can be told its port: its own one, if any, stands in its command."""
    own = engine.container_port
    return own is None or any(names_port(argument, own) for argument in engine.command)


def names_port(argument: str, port: int) -> bool:
    """Whether an argument is a port, or ends with it: `8000`, `--port=8000`, `host:8000`."""
    return re.search(rf"(?:^|[=:]){port}$", argument) is not None


def check_engine_spec(engine: EngineSpec) -> None:
    """Raise InvalidInput for the first value that makes no sense."""
    kind, port, path = engine.kind, engine.container_port, engine.ready_path
    if kind is EngineKind.COMFYUI:
        require(
            bool(engine.comfyui_dir or engine.image), "engine comfyui needs comfyui_dir or an image"
        )
    if kind is EngineKind.COMMAND:
        require(any(engine.command[:1]), "engine command needs a command: the argv to run")
    else:
        require(not engine.command, f"a command goes with engine command, not with {kind}")
        require(port is None, f"container_port goes with engine command, not with {kind}")
    if engine.app is not None or kind is EngineKind.APP:
        require(kind is EngineKind.APP, f"an app goes with engine app, not with {kind}")
        _check_app(engine.app)
    require(
        engine.image is None or kind is not EngineKind.EMBEDDED,
        "the embedded engine comes with its own Python; it takes no image",
    )
    require(path is None or kind in PLAIN_KINDS, "ready_path goes with engine command or app")
    require(port is None or 1 <= port <= 65535, "container_port must be between 1 and 65535")
    require(path is None or path.startswith("/"), "ready_path must begin with '/'")


def _check_app(app: AppSpec | None) -> None:
    if app is None:
        raise InvalidInput("engine app needs an app: its source and handler", code="invalid_spec")
    require(bool(_DIGEST.fullmatch(app.source)), "the source of an app is a digest: upload it")
    require(
        bool(_HANDLER.fullmatch(app.handler)),
        f"'{app.handler[:80]}' cannot be a handler: write module:attribute, as in api:handler",
    )
    require(app.workers >= 1, "workers must be at least 1")


def check_volumes(engine: EngineSpec, volumes: Sequence[VolumeMount]) -> None:
    """Raise InvalidInput unless each volume has a place of its own below the working directory."""
    paths = [mount_parts(volume) for volume in volumes]
    for volume, parts in zip(volumes, paths, strict=True):
        check_volume_name(volume.name)
        require(
            sum(parts == other[: len(parts)] for other in paths) == 1,
            f"another volume is mounted at or below '{volume.mount_path}'",
        )
        if engine.kind is EngineKind.COMFYUI:
            require(
                parts[0] == "models"
                and len(parts) <= 2
                and all(is_model_folder(part) for part in parts[1:]),
                f"ComfyUI takes models from a volume, folder by folder: mount '{volume.name}' at "
                f"'models' or 'models/FOLDER' (as in models/checkpoints), not at "
                f"'{volume.mount_path}'",
            )
    require(
        not volumes or engine.kind is not EngineKind.EMBEDDED,
        "the embedded engine has no use for volumes",
    )


def check_variables(names: Sequence[str]) -> None:
    """Raise InvalidInput for what cannot be the name of an environment variable."""
    for name in names:
        require(
            bool(_VARIABLE.fullmatch(name)),
            f"'{name[:80]}' cannot be the name of an environment variable",
        )


def mount_parts(volume: VolumeMount) -> tuple[str, ...]:
    """The path of a mount below the working directory. Raises InvalidInput if it is not below."""
    parts = tuple(part for part in volume.mount_path.split("/") if part not in {"", "."})
    require(
        bool(parts) and not volume.mount_path.startswith("/") and ".." not in parts,
        f"volume '{volume.name[:80]}' cannot be mounted at '{volume.mount_path[:80]}': give a path "
        "below the working directory, as in './models'",
    )
    return parts


def require(holds: bool, message: str) -> None:  # noqa: FBT001 - a condition, not a mode
    """Raise InvalidInput with `message` unless it holds."""
    if not holds:
        raise InvalidInput(message, code="invalid_spec")
