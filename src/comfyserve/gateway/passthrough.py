"""Routes of the engine that are not ours: refused with the reason, unless the operator allows them."""

from fnmatch import fnmatchcase

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from comfyserve.domain.errors import ComfyserveError, Forbidden, NotFound, NotReady
from comfyserve.gateway.auth import ADMIN, RUN
from comfyserve.gateway.context import Target, gateway_of, read_body

# Reach into the machine or reconfigure it: to be switched on deliberately.
_DANGEROUS = ("/internal/*", "/manager/*", "/customnode/*", "/snapshot/*", "/externalmodel/*")
_DROPPED = frozenset(
    {
        "host", "origin", "connection", "keep-alive", "transfer-encoding", "upgrade", "te",
        "trailer", "proxy-authorization", "proxy-authenticate", "authorization", "x-api-key",
        "cookie", "content-length", "accept-encoding",
    }
)  # fmt: skip


async def passthrough(request: Request) -> Response:
    """Forward an allowed route to a ready replica; it is never woken for one."""
    target: Target = request.state.target
    path = request.url.path
    bare = path.removeprefix("/api") or "/"
    if not any(fnmatchcase(bare, pattern) for pattern in target.deployment.spec.allow_routes):
        raise _refusal(bare, target.deployment.name)
    is_write = request.method not in {"GET", "HEAD"}
    request.state.principal.require(ADMIN if is_write else RUN, target.deployment.id)
    gateway = gateway_of(request)
    ready = gateway.runtime.fleet(target.deployment.id).ready
    if not ready:
        raise NotReady(
            f"{bare} is answered by a replica, and '{target.deployment.name}' is asleep; "
            f"wake it first: POST /api/v1/deployments/{target.deployment.name}/warm",
            code="asleep",
        )
    body = await read_body(request, gateway.settings.max_body_bytes)
    headers = {name: value for name, value in request.headers.items() if name not in _DROPPED}
    headers = {name: v for name, v in headers.items() if not name.startswith("sec-fetch-")}
    answer = await ready[0].client.forward(
        request.method, path, query=request.url.query, headers=headers, body=body
    )
    kept = {name: value for name, value in answer.headers.items() if name.lower() not in _DROPPED}
    return StreamingResponse(answer.chunks, answer.status, kept)


def _refusal(path: str, name: str) -> ComfyserveError:
    how = f"an operator can allow it: comfyserve deploy {name} ... --allow-route '{path}'"
    if any(fnmatchcase(path, pattern) for pattern in _DANGEROUS):
        return Forbidden(
            f"{path} reaches into the engine's machine and is closed; {how}", code="route_closed"
        )
    return NotFound(f"{path} is not served here; if the engine has it, {how}", code="no_route")
