"""`/users` and `/settings`: what ComfyUI's web page keeps for its one user, by deployment."""

import asyncio
import os
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from comfyserve.gateway.answers import empty, json_response
from comfyserve.gateway.beneath import open_file, replace_file
from comfyserve.gateway.context import Target, as_mapping, decode_json, gateway_of, read_body
from comfyserve.gateway.disk import explained

_FILE = "comfy.settings.json"


def user_dir(target: Target) -> Path:
    """Where the files of a deployment's one user lie, beside its inputs."""
    return target.input_dir.parent / "user" / "default"


async def get_users(request: Request) -> Response:  # noqa: ARG001 - a handler
    """One user, whose settings are kept by the server: there is nothing to migrate."""
    return json_response({"storage": "server", "migrated": True})


async def get_settings(request: Request) -> Response:
    """All settings."""
    return json_response(await asyncio.to_thread(_settings_of(request).read))


async def get_setting(request: Request) -> Response:
    """One setting; null for one that was never set."""
    settings = await asyncio.to_thread(_settings_of(request).read)
    return json_response(settings.get(request.path_params["id"]))


async def post_settings(request: Request) -> Response:
    """Change several settings, leaving the others."""
    changes = as_mapping(await _sent(request), "settings")
    await asyncio.to_thread(_settings_of(request).change, changes)
    return empty()


async def post_setting(request: Request) -> Response:
    """Change one setting."""
    changes = {request.path_params["id"]: await _sent(request)}
    await asyncio.to_thread(_settings_of(request).change, changes)
    return empty()


async def _sent(request: Request) -> Any:  # noqa: ANN401 - the JSON border
    return decode_json(await read_body(request, gateway_of(request).settings.max_body_bytes))


class _Settings:
    """One user's settings file. Blocks."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # The page sends its changes side by side; each one is a read and a write.
        self._changing = threading.Lock()

    def read(self) -> Mapping[str, Any]:
        """What is there; a file that cannot be read counts as empty, as with ComfyUI."""
        handle = open_file(self._directory, (_FILE,))
        if handle is None:
            return {}
        with os.fdopen(handle, "rb") as file:
            try:
                return msgspec.json.decode(file.read(), type=dict[str, Any])
            except msgspec.DecodeError:
                return {}

    def change(self, changes: Mapping[str, Any]) -> None:
        """Set what `changes` names. Raises StorageFull."""
        with self._changing, explained(_FILE):
            settings = msgspec.json.encode({**self.read(), **changes})
            replace_file(self._directory, (_FILE,), msgspec.json.format(settings, indent=4))


def _settings_of(request: Request) -> _Settings:
    return _settings_in(user_dir(request.state.target))


@cache
def _settings_in(directory: Path) -> _Settings:
    return _Settings(directory)
