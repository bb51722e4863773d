"""The control API under `/api/v1`: deployments, endpoints, jobs, and what else a server keeps."""

from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from comfyserve import __version__
from comfyserve.domain.errors import ComfyserveError, InvalidInput, NotFound
from comfyserve.gateway import models as m
from comfyserve.gateway.context import Gateway
from comfyserve.gateway.control import (
    budgets,
    builds,
    deployments,
    endpoints,
    jobs,
    lives,
    outputs,
    replicas,
    secrets,
    sources,
    usage,
    volumes,
    webhooks,
    workflows,
)
from comfyserve.gateway.errors import control_error

_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": m.ErrorModel, "description": "The request cannot be served as it is."},
    "5XX": {"model": m.ErrorModel, "description": "Something failed on the server."},
}


async def _known_query(request: Request) -> None:
    """Refuse a query parameter that the route does not have: a typo must not be ignored."""
    dependant = request.scope["route"].dependant
    known = {param.alias for param in dependant.query_params} | {"token"}
    for name in request.query_params:
        if name not in known:
            taken = ", ".join(sorted(known)) or "none"
            raise InvalidInput(f"unknown query parameter '{name[:80]}'; there is: {taken}")


def control_app(gateway: Gateway) -> FastAPI:
    """The control API as an application of its own; its paths begin with `/api/v1`."""
    app = FastAPI(
        title="comfyserve control API",
        version=__version__,
        description=__doc__ or "",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.gateway = gateway
    for part in (
        usage,
        budgets,
        deployments,
        lives,
        endpoints,
        workflows,
        replicas,
        jobs,
        outputs,
        secrets,
        sources,
        webhooks,
        volumes,
        builds,
    ):
        app.include_router(
            part.router,
            prefix="/api/v1",
            responses=_ERRORS,
            dependencies=[Depends(_known_query)],
        )
    app.add_exception_handler(ComfyserveError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(404, _on_unknown)
    app.add_exception_handler(UnicodeEncodeError, _on_bad_text)
    return app


async def _on_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ComfyserveError)  # noqa: S101 - registered for nothing else
    return control_error(error)


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    found = "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
    )
    return control_error(InvalidInput(found))


async def _on_bad_text(_: Request, error: Exception) -> Response:
    """JSON can hold half characters (lone surrogates), which nothing can store."""
    return control_error(
        InvalidInput(f"the request holds text that is not valid Unicode: {error}", code="bad_text")
    )


async def _on_unknown(request: Request, _: Exception) -> Response:
    return control_error(
        NotFound(f"there is no {request.method} {request.url.path}; see /api/v1/openapi.json")
    )
