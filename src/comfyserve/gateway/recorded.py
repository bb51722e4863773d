"""Reads that a replica answered once, when the revision was recorded: nothing wakes for them."""

from collections.abc import Callable, Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from comfyserve.gateway.answers import empty, json_response, raw_json
from comfyserve.gateway.context import Target
from comfyserve.gateway.input_files import (
    list_input_files,
    patch_object_info,
    patch_object_info_of,
)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

RECORDED_PATHS = (
    "/system_stats",
    "/features",
    "/embeddings",
    "/extensions",
    "/models",
    "/experiment/models",
    "/workflow_templates",
    "/i18n",
    "/node_replacements",
    "/global_subgraphs",
)


def recorded(path: str) -> Handler:
    """A handler that gives the recorded answer to `path`; 404 if the engine has no such route."""

    async def answer(request: Request) -> Response:
        target: Target = request.state.target
        raw = target.snapshot.answers.get(path)
        return empty(404) if raw is None else raw_json(bytes(raw))

    return answer


async def recorded_folder(request: Request) -> Response:
    """`/models/{folder}` and `/experiment/models/{folder}`: the files that were there."""
    target: Target = request.state.target
    path = request.url.path.partition("models/")[2]
    prefix = "/experiment/models" if "/experiment/" in request.url.path else "/models"
    raw = target.snapshot.answers.get(f"{prefix}/{path}")
    return empty(404) if raw is None else raw_json(bytes(raw))


async def object_info(request: Request) -> Response:
    """All node classes; the combos of input files list what lies there now."""
    target: Target = request.state.target
    files = await list_input_files(target.input_dir)
    return raw_json(patch_object_info(target.snapshot, files))


async def object_info_of(request: Request) -> Response:
    """One node class; `{}` for one that is not there."""
    target: Target = request.state.target
    files = await list_input_files(target.input_dir)
    name = request.path_params["name"]
    return json_response(patch_object_info_of(target.snapshot, name, files))
