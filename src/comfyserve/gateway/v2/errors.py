"""What the v2 door refuses, in the contract's envelope: `{"error": {"code", "message", "details"}}`."""

from starlette.responses import Response

from comfyserve.domain import errors
from comfyserve.gateway.answers import json_response
from comfyserve.gateway.errors import Refusal, headers_of, status_of

_RETRY_AFTER_S = 5
# By code, where the contract's status is not that of the other doors.
_STATUS = {
    "invalid_json": 400,
    "invalid_cursor": 400,
    "invalid_metadata_filter": 400,
    "idempotency_key_reuse": 422,
    "deployment_stopped": 422,
    "blob_missing": 404,
}
_CODES: tuple[tuple[type[errors.ComfyserveError], str], ...] = (
    (errors.Unauthorized, "unauthorized"),
    (errors.Forbidden, "forbidden"),
    (errors.PayloadTooLarge, "payload_too_large"),
    (errors.QueueFull, "queue_full"),
    (errors.BudgetSpent, "insufficient_credits"),
)


def invalid_request(message: str) -> Refusal:
    """A field that cannot be used; the message names it."""
    return Refusal(422, "invalid_request", message)


def v2_error(error: errors.ComfyserveError) -> Response:
    """The answer for any error. What is no caller's business stays in the log."""
    status, code = _status(error), _code(error)
    headers = dict(headers_of(error))
    if status == 429:
        headers.setdefault("Retry-After", str(_RETRY_AFTER_S))
    message = error.message
    if status == 500:
        code, message = "upstream_error", "The server failed to handle this request."
    details = error.details if isinstance(error, Refusal) else None
    body = {"error": {"code": code, "message": message, "details": details}}
    return json_response(body, status, headers)


def _status(error: errors.ComfyserveError) -> int:
    if isinstance(error, Refusal):
        return error.status
    if error.code in _STATUS:
        return _STATUS[error.code]
    if isinstance(error, errors.InvalidInput):
        return 422
    # What may work later is a 429 here, which clients repeat by themselves.
    return 429 if isinstance(error, errors.NotReady) else status_of(error)


def _code(error: errors.ComfyserveError) -> str:
    if isinstance(error, errors.InvalidInput) and error.code == errors.InvalidInput.code:
        return "invalid_request"
    if isinstance(error, errors.NotReady) and error.code != "deployment_stopped":
        return "deployment_not_ready"
    return next((code for kind, code in _CODES if isinstance(error, kind)), error.code)
