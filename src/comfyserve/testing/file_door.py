"""The file part of the native door on a real socket, over a real store, with nothing to wake."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import aiohttp
import msgspec
import yarl
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from comfyserve.clock import SystemClock
from comfyserve.domain.deployment import Deployment
from comfyserve.domain.errors import ComfyserveError
from comfyserve.domain.spec import DeploymentSpec
from comfyserve.gateway import (
    files,
    uploads,
    user_data,
    user_settings,
    view_metadata,
    web,
)
from comfyserve.gateway.answers import empty
from comfyserve.gateway.context import Gateway, Target
from comfyserve.gateway.errors import native_error
from comfyserve.gateway.listeners import Listeners, bind
from comfyserve.runtime.bus import Bus
from comfyserve.runtime.snapshot import Snapshot
from comfyserve.runtime.volumes import VolumeModels
from comfyserve.settings import Settings
from comfyserve.store import Store, open_store
from comfyserve.store.assets import Asset, NewAsset
from comfyserve.testing.store_data import a_deployment, a_revision

# The deployment is served at the root and, as any other, under its name.
_PREFIX = "/d/dp_1"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/view", files.view),
    ("POST", "/upload/image", uploads.upload_image),
    ("POST", "/upload/mask", uploads.upload_mask),
    ("GET", "/view_metadata/{folder}", view_metadata.view_metadata),
    ("GET", "/global_subgraphs/{id}", web.global_subgraph),
    ("GET", "/users", user_settings.get_users),
    ("GET", "/settings", user_settings.get_settings),
    ("POST", "/settings", user_settings.post_settings),
    ("GET", "/settings/{id}", user_settings.get_setting),
    ("POST", "/settings/{id}", user_settings.post_setting),
    ("GET", "/userdata", user_data.list_user_data),
    ("GET", "/v2/userdata", user_data.list_user_data_v2),
    ("GET", "/userdata/{file:path}", user_data.get_user_data),
    ("POST", "/userdata/{file:path}", user_data.post_user_data),
    ("DELETE", "/userdata/{file:path}", user_data.delete_user_data),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - the JSON border
        """The body, decoded."""
        return msgspec.json.decode(self.body)


@dataclass(frozen=True, slots=True)
class FileDoor:
    """One deployment's files, reachable over HTTP."""

    url: str
    client: aiohttp.ClientSession
    store: Store
    deployment: Deployment
    home: Path

    @property
    def directory(self) -> Path:
        """The deployment's own directory."""
        return self.home / "deployments" / self.deployment.id

    @property
    def input_dir(self) -> Path:
        """Where its inputs lie."""
        return self.directory / "input"

    async def put_input(self, name: str, data: bytes) -> Path:
        """Put a file there, as a replica or an operator would."""
        return await asyncio.to_thread(_put, self.input_dir / name, data)

    async def put_asset(
        self,
        name: str,
        data: bytes,
        subfolder: str = "",
        type: str = "output",  # noqa: A002 - ComfyUI's word
    ) -> Asset:
        """Store an output, as a job would."""
        blob = await self.store.blobs.put_bytes(data)
        new = NewAsset(
            deployment_id=self.deployment.id,
            job_id=None,
            node_id="9",
            name=name,
            subfolder=subfolder,
            type=type,
            digest=blob.digest,
            size_bytes=blob.size_bytes,
            content_type="application/octet-stream",
        )
        return await self.store.assets.add(new, SystemClock().now())

    async def get(self, path: str, **headers: str) -> Answer:
        """GET a path that is encoded already; header names with `_` for `-`."""
        return await self.ask("GET", path, headers=headers)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,  # noqa: ANN401 - whatever aiohttp sends
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One exchange."""
        sent = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        address = yarl.URL(self.url + path, encoded=True)
        async with self.client.request(
            method, address, data=data, headers=sent, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def upload(
        self, data: bytes, filename: str = "cat.png", route: str = "image", **fields: str
    ) -> Answer:
        """Upload a file as ComfyUI's clients do."""
        form = aiohttp.FormData()
        form.add_field("image", BytesIO(data), filename=filename, content_type="image/png")
        for name, value in fields.items():
            form.add_field(name, value)
        return await self.ask("POST", f"/upload/{route}", data=form)


@asynccontextmanager
async def file_door(
    home: Path,
    *,
    version: str = "0.3.64",
    spec: DeploymentSpec | None = None,
    object_info: bytes = b"{}",
    answers: Mapping[str, object] | None = None,
) -> AsyncIterator[FileDoor]:
    """Serve the files of one deployment that behaves as ComfyUI `version` and is asleep."""
    revision = a_revision(engine_version=version, spec=spec or DeploymentSpec())
    deployment = a_deployment(revision=revision)
    recorded = {path: msgspec.Raw(msgspec.json.encode(v)) for path, v in (answers or {}).items()}
    async with open_store(home) as store, Listeners("127.0.0.1") as listeners:
        await store.deployments.create(deployment)
        gateway = Gateway(
            store=store,
            runtime=cast(Any, None),
            deployer=cast(Any, None),
            bus=Bus(),
            clock=SystemClock(),
            settings=Settings(home=str(home)),
            histories=cast(Any, None),
            listeners=listeners,
            budgets=cast(Any, None),
            outside=cast(Any, None),
            courier=cast(Any, None),
            volumes=VolumeModels(home, SystemClock()),
            upstream=cast(Any, None),
            builds=cast(Any, None),
        )
        target = Target(
            deployment=deployment,
            snapshot=Snapshot(object_info, recorded),
            input_dir=home / "deployments" / deployment.id / "input",
        )
        listener = bind("127.0.0.1", 0)
        await listeners.serve(_App(gateway, target), listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with aiohttp.ClientSession() as client:
            yield FileDoor(url, client, store, deployment, home)


def _put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


class _App:
    """What stands in for the gateway's own table: no credentials, one deployment."""

    def __init__(self, gateway: Gateway, target: Target) -> None:
        self.state = State({"gateway": gateway})
        self._target = target
        routes = [
            Route(prefix + path, handler, methods=[method])
            for prefix in ("", "/api")
            for method, path, handler in _ROUTES
        ]
        self._router = Router(routes, default=_page, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        path: str = scope["path"]
        prefix = _PREFIX if path.startswith(f"{_PREFIX}/") else ""
        scope["path"] = path.removeprefix(prefix)
        scope["state"] = {"target": self._target, "prefix": prefix}
        try:
            await self._router(scope, receive, send)
        except ComfyserveError as error:
            await native_error(error)(scope, receive, send)


async def _page(scope: Scope, receive: Receive, send: Send) -> None:
    response = await web.web_file(Request(scope, receive)) or empty(404)
    await response(scope, receive, send)
