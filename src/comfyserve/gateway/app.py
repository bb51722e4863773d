"""The route table, and which door a request comes to. Nothing else."""

from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import Receive, Scope, Send

from comfyserve.domain.deployment import Deployment
from comfyserve.domain.errors import ComfyserveError, Forbidden, Unauthorized
from comfyserve.gateway import (
    files,
    native_jobs,
    prompt,
    queue,
    recorded,
    uploads,
    user_data,
    user_settings,
    view_metadata,
    web,
)
from comfyserve.gateway.auth import (
    ADMIN,
    ANONYMOUS,
    LOCAL,
    READ,
    RUN,
    Principal,
    anonymous,
    authenticate,
)
from comfyserve.gateway.context import Gateway, Target
from comfyserve.gateway.control import control_app
from comfyserve.gateway.errors import native_error
from comfyserve.gateway.metrics import metrics
from comfyserve.gateway.passthrough import passthrough
from comfyserve.gateway.plain.call import Call
from comfyserve.gateway.plain.door import PlainDoor
from comfyserve.gateway.playground import Playground
from comfyserve.gateway.resolve import Resolved, resolve
from comfyserve.gateway.typed.app import TypedDoor, is_typed
from comfyserve.gateway.v2.app import V2Door, is_v2
from comfyserve.gateway.ws import native_socket

log = structlog.get_logger()

_DEFECT = "something failed on the server that should not; its log has the trace"
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Row:
    """One route of the native door, served as it is and under `/api`."""

    method: str
    path: str
    handler: Handler
    scope: str


NATIVE: tuple[Row, ...] = (
    Row("POST", "/prompt", prompt.post_prompt, RUN),
    Row("GET", "/history/{prompt_id}", queue.get_history_entry, READ),
    Row("GET", "/view", files.view, READ),
    Row("GET", "/prompt", queue.get_prompt, READ),
    Row("GET", "/queue", queue.get_queue, READ),
    Row("POST", "/queue", queue.post_queue, RUN),
    Row("GET", "/history", queue.get_history, READ),
    Row("POST", "/history", queue.post_history, RUN),
    Row("POST", "/interrupt", queue.post_interrupt, RUN),
    Row("POST", "/free", queue.post_free, ADMIN),
    Row("GET", "/object_info", recorded.object_info, READ),
    Row("GET", "/object_info/{name}", recorded.object_info_of, READ),
    Row("POST", "/upload/image", uploads.upload_image, RUN),
    Row("POST", "/upload/mask", uploads.upload_mask, RUN),
    Row("GET", "/view_metadata/{folder}", view_metadata.view_metadata, READ),
    Row("GET", "/models/{folder}", recorded.recorded_folder, READ),
    Row("GET", "/experiment/models/{folder}", recorded.recorded_folder, READ),
    Row("GET", "/users", user_settings.get_users, READ),
    Row("GET", "/settings", user_settings.get_settings, READ),
    Row("POST", "/settings", user_settings.post_settings, ADMIN),
    Row("GET", "/settings/{id}", user_settings.get_setting, READ),
    Row("POST", "/settings/{id}", user_settings.post_setting, ADMIN),
    Row("GET", "/userdata", user_data.list_user_data, READ),
    Row("GET", "/v2/userdata", user_data.list_user_data_v2, READ),
    Row("GET", "/userdata/{file:path}", user_data.get_user_data, READ),
    Row("POST", "/userdata/{file:path}", user_data.post_user_data, ADMIN),
    Row("DELETE", "/userdata/{file:path}", user_data.delete_user_data, ADMIN),
    Row("GET", "/global_subgraphs/{id}", web.global_subgraph, READ),
    *(Row("GET", path, recorded.recorded(path), READ) for path in recorded.RECORDED_PATHS),
)
# These are written with `/api` in ComfyUI itself, so their twins are under `/api/api`.
NATIVE_JOBS: tuple[Row, ...] = (
    Row("GET", "/jobs", native_jobs.list_jobs, READ),
    Row("POST", "/jobs/cancel", native_jobs.cancel_jobs, RUN),
    Row("GET", "/jobs/{job_id}", native_jobs.get_job, READ),
    Row("POST", "/jobs/{job_id}/cancel", native_jobs.cancel_job, RUN),
)


class GatewayApp:
    """The one ASGI application: control API, metrics, and the doors of each deployment."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._control = control_app(gateway)
        self._v2 = V2Door(gateway)
        self._typed = TypedDoor(gateway)
        self._plain_door = PlainDoor(gateway)
        self._playground = Playground()
        self._native = Router(list(_native_routes()), default=_unknown, redirect_slashes=False)
        self._plain = {
            (row.method, path): _guarded(row.handler, row.scope)
            for path, row in _rows()
            if "{" not in path
        }
        self._targets: dict[str, Target] = {}
        self.state = self._control.state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP exchange or WebSocket."""
        path: str = scope["path"]
        found = self._find(scope)
        if path.startswith("/api/v1/") and not _is_ruled_by_plain(found):
            await self._control(scope, receive, send)
            return
        scope["app"] = self
        try:
            await self._serve_deployment(found, scope, receive, send)
        except ComfyserveError as error:
            await self._refuse(path, error, scope, receive, send)
        except HTTPException as error:  # The router's own: a path that is there, another method.
            wrong = Response(
                f"{error.status_code}: {error.detail}", error.status_code, error.headers
            )
            await wrong(scope, receive, send)
        except ClientDisconnect:
            return  # nobody is left to be told
        except Exception:
            log.exception("A request failed.", event_key="request_failed", path=scope["path"])
            await self._refuse(path, ComfyserveError(_DEFECT), scope, receive, send)

    def _find(self, scope: Scope) -> Resolved | ComfyserveError:
        """The deployment that is addressed, or what is wrong with the address: not all may be told."""
        gateway = self._gateway
        try:
            return resolve(scope, gateway.runtime, gateway.settings.domain)
        except ComfyserveError as error:
            return error

    async def _serve_deployment(
        self, found: Resolved | ComfyserveError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        page = await self._playground.answer(scope)
        if page is not None and not _leads_to_plain(found):
            await page(scope, receive, send)
            return
        principal = self._v2.bearer(scope) or await self._principal(scope, found)
        if scope["path"] == "/metrics" and not _is_ruled_by_plain(found):
            principal.require(READ)
            await (await metrics(self._gateway))(scope, receive, send)
            return
        if isinstance(found, ComfyserveError):
            raise found
        if found.path is None:
            # The web page addresses everything relative to the last slash.
            await RedirectResponse(f"{found.prefix}/", 308)(scope, receive, send)
            return
        deployment = found.deployment
        if deployment.revision.is_plain:
            await self._serve_plain(found, principal, scope, receive, send)
            return
        target = await self._target(deployment)
        scope["path"] = found.path
        scope["state"] = {"target": target, "principal": principal, "prefix": found.prefix}
        if is_v2(found.path):
            await self._v2(scope, receive, send)
            return
        handler = self._plain.get((scope.get("method", ""), found.path))
        if handler is None:
            await (self._typed if is_typed(found.path) else self._native)(scope, receive, send)
            return
        # The same as the router does, without trying each route's pattern.
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)

    async def _target(self, deployment: Deployment) -> Target:
        """The deployment with what is recorded of it; the same object while neither changes."""
        snapshot = await self._gateway.snapshot(deployment)
        known = self._targets.get(deployment.id)
        if known and known.deployment is deployment and known.snapshot is snapshot:
            return known
        runtime = self._gateway.runtime
        live = {each.id for each in runtime.deployments}
        self._targets = {id_: each for id_, each in self._targets.items() if id_ in live}
        target = Target(deployment, snapshot, runtime.input_dir(deployment.id))
        self._targets[deployment.id] = target
        return target

    async def _principal(self, scope: Scope, found: Resolved | ComfyserveError) -> Principal:
        """Who is asking; anybody, at a deployment that is open to everybody."""
        gateway = self._gateway
        try:
            return await authenticate(scope, gateway.store.tokens, gateway.settings.domain)
        except (Unauthorized, Forbidden):
            # What there is, strangers are not told.
            if isinstance(found, ComfyserveError) or found.deployment.spec.authorized:
                raise
            return anonymous(found.deployment.id)

    async def _serve_plain(
        self, found: Resolved, principal: Principal, scope: Scope, receive: Receive, send: Send
    ) -> None:
        is_ours = principal.name not in {LOCAL.name, ANONYMOUS}
        call = Call(scope, found.deployment, principal, found.prefix, shows_credential=is_ours)
        await self._plain_door(call, receive, send)

    async def _refuse(
        self, path: str, error: ComfyserveError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": error.message[:120]})
        elif is_v2(path):
            await self._v2.refuse(error, scope, receive, send)
        elif is_typed(path):
            await self._typed.refuse(error, scope, receive, send)
        else:
            await native_error(error)(scope, receive, send)


def _leads_to_plain(found: Resolved | ComfyserveError) -> bool:
    """Whether a request is for a plain server, whose paths are its own business."""
    return isinstance(found, Resolved) and found.deployment.revision.is_plain


def _is_ruled_by_plain(found: Resolved | ComfyserveError) -> bool:
    """Whether even the paths of the server itself are a plain server's here."""
    return isinstance(found, Resolved) and found.has_every_path


def _rows() -> Iterator[tuple[str, Row]]:
    """Every path of the native door with its row."""
    for prefix in ("", "/api"):
        yield from ((prefix + row.path, row) for row in NATIVE)
    for prefix in ("/api", "/api/api"):
        yield from ((prefix + row.path, row) for row in NATIVE_JOBS)


def _native_routes() -> Iterator[BaseRoute]:
    for prefix in ("", "/api"):
        yield WebSocketRoute(f"{prefix}/ws", native_socket)
    for path, row in _rows():
        yield Route(path, _guarded(row.handler, row.scope), methods=[row.method])


def _guarded(handler: Handler, needed: str) -> Handler:
    async def guarded(request: Request) -> Response:
        state = request.state
        state.principal.require(needed, state.target.deployment.id)
        return await handler(request)

    return guarded


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    """The engine's web page from disk; else the allow-list. Nothing passes by itself."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": "there is only /ws"})
        return
    request = Request(scope, receive)
    request.state.principal.require(READ, request.state.target.deployment.id)
    response = await web.web_file(request) or await passthrough(request)
    await response(scope, receive, send)
