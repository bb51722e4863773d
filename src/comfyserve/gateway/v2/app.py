"""The route table of Comfy API v2, and what surrounds each of its answers."""

import re
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from comfyserve.domain.errors import ComfyserveError
from comfyserve.gateway.auth import READ, RUN, Principal
from comfyserve.gateway.context import Gateway
from comfyserve.gateway.door import Call, DoorParts, Streams
from comfyserve.gateway.errors import Refusal
from comfyserve.gateway.signing import UrlSigner
from comfyserve.gateway.v2 import assets, jobs
from comfyserve.gateway.v2.errors import v2_error
from comfyserve.gateway.v2.submit import submit_job

log = structlog.get_logger()

# ComfyUI has an `/api/v2` of its own (`/api/v2/userdata`), so only these two are the contract's.
_OURS = re.compile(r"(?:/d/[^/]+)?/api/v2/(?:jobs|assets)(?:/.*)?", re.DOTALL)
_BASE = "/api/v2"
_REQUEST_ID = b"x-comfy-request-id"
Handler = Callable[[Call], Coroutine[Any, Any, Response]]

ROUTES: tuple[tuple[str, str, Handler, str], ...] = (
    ("POST", "/jobs", submit_job, RUN),
    ("GET", "/jobs", jobs.list_jobs, READ),
    ("GET", "/jobs/{job_id}", jobs.get_job, READ),
    ("GET", "/jobs/{job_id}/workflow", jobs.get_workflow, READ),
    ("GET", "/jobs/{job_id}/logs", jobs.get_logs, READ),
    ("GET", "/jobs/{job_id}/events", jobs.get_events, READ),
    ("POST", "/jobs/{job_id}/cancel", jobs.cancel_job, RUN),
    ("POST", "/assets", assets.upload_asset, RUN),
    ("POST", "/assets/from-hash", assets.refer_by_hash, RUN),
    ("HEAD", "/assets/by-hash/{hash}", assets.has_hash, READ),
    ("GET", "/assets/{asset_id}", assets.get_asset, READ),
    ("DELETE", "/assets/{asset_id}", assets.delete_asset, RUN),
    ("GET", "/assets/{asset_id}/content", assets.get_content, READ),
)


def is_v2(path: str) -> bool:
    """Whether a path, with or without its deployment, comes to this door."""
    return _OURS.fullmatch(path) is not None


class V2Door:
    """Serves the contract for the deployment that a scope's state names as its target."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._parts = DoorParts(UrlSigner(gateway.store.signing_key), Streams(), _BASE)
        routes = [
            Route(_BASE + path, self._served(handler, needed), methods=[method])
            for method, path, handler, needed in ROUTES
        ]
        self._router = Router(routes, default=_unknown, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one exchange; whatever goes wrong has the contract's envelope."""
        marked = _marking(send)
        try:
            await self._router(scope, receive, marked)
        except ComfyserveError as error:
            await v2_error(error)(scope, receive, marked)
        except HTTPException as error:
            refusal = Refusal(error.status_code, "method_not_allowed", str(error.detail))
            await v2_error(refusal)(scope, receive, marked)
        except ClientDisconnect:
            return  # nobody is left to be told

    async def refuse(
        self, error: ComfyserveError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request that did not get as far as this door."""
        await v2_error(error)(scope, receive, _marking(send))

    def bearer(self, scope: Scope) -> Principal | None:
        """Who comes with a signed download URL in place of a token."""
        return self._parts.signer.bearer(scope, self._gateway.clock.now())

    def _served(
        self, handler: Handler, needed: str
    ) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def served(request: Request) -> Response:
            state = request.state
            state.principal.require(needed, state.target.deployment.id)
            return await handler(self._parts.call(request))

        return served


def _marking(send: Send) -> Send:
    """Each answer has an id, for a caller to name it by."""
    request_id = uuid.uuid4().hex.encode()

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (_REQUEST_ID, request_id)]
            message = {**message, "headers": headers}
        await send(message)

    return marked


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": "there is only /ws"})
        return
    refusal = Refusal(404, "not_found", f"there is no {scope['method']} {scope['path'][:200]}")
    await v2_error(refusal)(scope, receive, send)
