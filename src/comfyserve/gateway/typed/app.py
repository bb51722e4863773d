"""The route table of the typed door, and what surrounds each of its answers."""

import re
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from comfyserve.domain.errors import ComfyserveError
from comfyserve.gateway.auth import READ, RUN
from comfyserve.gateway.context import Gateway
from comfyserve.gateway.door import Call, DoorParts, Streams
from comfyserve.gateway.errors import Refusal
from comfyserve.gateway.signing import UrlSigner
from comfyserve.gateway.typed import batches, describe, jobs
from comfyserve.gateway.typed.errors import typed_error
from comfyserve.gateway.typed.openapi import deployment_openapi, endpoint_openapi
from comfyserve.gateway.typed.run import run_endpoint

_OURS = re.compile(r"(?:/d/[^/]+)?/(?:(?:run|jobs|batches)(?:/.*)?|openapi\.json)", re.DOTALL)
Handler = Callable[[Call], Coroutine[Any, Any, Response]]

ROUTES: tuple[tuple[str, str, Handler, str], ...] = (
    ("GET", "/run", describe.list_endpoints, READ),
    ("GET", "/run/{name}", describe.describe_endpoint, READ),
    ("POST", "/run/{name}", run_endpoint, RUN),
    ("GET", "/run/{name}/openapi.json", endpoint_openapi, READ),
    ("POST", "/run/{name}/batch", batches.run_batch, RUN),
    ("GET", "/openapi.json", deployment_openapi, READ),
    ("GET", "/batches", batches.list_batches, READ),
    ("GET", "/batches/{batch_id}", batches.get_batch, READ),
    ("GET", "/batches/{batch_id}/outputs.zip", batches.get_outputs, READ),
    ("POST", "/batches/{batch_id}/cancel", batches.cancel_batch, RUN),
    ("GET", "/jobs", jobs.list_jobs, READ),
    ("GET", "/jobs/{job_id}", jobs.get_job, READ),
    ("GET", "/jobs/{job_id}/events", jobs.get_events, READ),
    ("GET", "/jobs/{job_id}/outputs/{index}", jobs.get_output, READ),
    ("POST", "/jobs/{job_id}/cancel", jobs.cancel_job, RUN),
)


def is_typed(path: str) -> bool:
    """Whether a path, with or without its deployment, comes to this door."""
    return _OURS.fullmatch(path) is not None


class TypedDoor:
    """Serves the endpoints and jobs of the deployment that a scope's state names as its target."""

    def __init__(self, gateway: Gateway) -> None:
        self._parts = DoorParts(UrlSigner(gateway.store.signing_key), Streams())
        routes = [
            Route(path, self._served(handler, needed), methods=[method])
            for method, path, handler, needed in ROUTES
        ]
        self._router = Router(routes, default=_unknown, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one exchange; whatever goes wrong has the envelope."""
        try:
            await self._router(scope, receive, send)
        except ComfyserveError as error:
            await self.refuse(error, scope, receive, send)
        except HTTPException as error:
            refusal = Refusal(error.status_code, "method_not_allowed", str(error.detail))
            await self.refuse(refusal, scope, receive, send)
        except ClientDisconnect:
            return  # nobody is left to be told

    async def refuse(
        self, error: ComfyserveError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request that cannot be served."""
        await typed_error(error)(scope, receive, send)

    def _served(
        self, handler: Handler, needed: str
    ) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def served(request: Request) -> Response:
            state = request.state
            state.principal.require(needed, state.target.deployment.id)
            return await handler(self._parts.call(request))

        return served


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": "there is only /ws"})
        return
    refusal = Refusal(404, "not_found", f"there is no {scope['method']} {scope['path'][:200]}")
    await typed_error(refusal)(scope, receive, send)
