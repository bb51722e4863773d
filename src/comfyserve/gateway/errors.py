"""Domain error to HTTP: the only mapping. Each door has its own shape around it."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from comfyserve.domain import errors
from comfyserve.gateway.answers import json_response

_STATUS: tuple[tuple[type[errors.ComfyserveError], int], ...] = (
    (errors.InvalidInput, 400),
    (errors.Unauthorized, 401),
    (errors.BudgetSpent, 402),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.Gone, 410),
    (errors.PayloadTooLarge, 413),
    (errors.DeployFailed, 422),
    (errors.QueueFull, 429),
    (errors.NotReady, 503),
    (errors.StartFailed, 503),
    (errors.EngineError, 502),
    (errors.StorageFull, 507),
)


class Refusal(errors.ComfyserveError):
    """A refusal of one door, with its status, and details that a program can use."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.details = details


def status_of(error: errors.ComfyserveError) -> int:
    """The HTTP status of an error; 500 for what is a defect of ours."""
    if isinstance(error, Refusal):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def headers_of(error: errors.ComfyserveError) -> dict[str, str]:
    """Headers that go with an error: when to come back, how to authenticate."""
    if isinstance(error, errors.QueueFull):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, errors.Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    return {}


def control_error(error: errors.ComfyserveError) -> Response:
    """The control API's shape: `{"error": {"code", "message", "details"}}`."""
    return json_response(
        {"error": {"code": error.code, "message": error.message, "details": _details(error)}},
        status_of(error),
        headers_of(error),
    )


def native_error(error: errors.ComfyserveError) -> Response:
    """ComfyUI's shape for a refused prompt, used on its whole door."""
    body = {
        "error": {
            "type": error.code,
            "message": error.message,
            "details": "",
            "extra_info": _details(error),
        },
        "node_errors": {},
    }
    return json_response(body, status_of(error), headers_of(error))


def _details(error: errors.ComfyserveError) -> Mapping[str, Any]:
    if isinstance(error, Refusal):
        return error.details or {}
    if isinstance(error, errors.EngineFailure):
        return {"log_tail": list(error.log_tail)}
    return {}
