"""What the typed door refuses: `{"error": {"code", "message", "details"}}`, all reasons at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from comfyserve.domain import errors
from comfyserve.gateway.errors import Refusal, control_error
from comfyserve.workflow import Problem
from comfyserve.workflow.problems import printable, shortened

_MOST_TOLD = 100
_LONGEST = 300
# By code, where a program has to tell it from other bad requests.
_STATUS = {"invalid_input": 422, "deployment_stopped": 503}


def typed_error(error: errors.ComfyserveError) -> Response:
    """The answer for any error. What is no caller's business stays in the log."""
    if isinstance(error, errors.InvalidInput) and error.code in _STATUS:
        error = Refusal(_STATUS[error.code], "invalid_request", error.message)
    return control_error(error)


def invalid_request(message: str, *, code: str = "invalid_request") -> Refusal:
    """Something beside the inputs that cannot be used; the message names it."""
    return Refusal(422, code, message)


def invalid_inputs(endpoint: str, problems: Sequence[Mapping[str, Any]]) -> Refusal:
    """Inputs that cannot be used, each with what would be right."""
    first = problems[0]
    more = len(problems) - 1
    at = "" if first["index"] is None else f"call {first['index']}: "
    message = f"{at}{str(first['message']).rstrip('.')}. {first['hint']}".strip()
    return Refusal(
        422,
        "invalid_inputs",
        f"{message} (and {more} more)" if more else message,
        {
            "endpoint": endpoint,
            "problems": list(problems[:_MOST_TOLD]),
            "problems_left_out": max(0, len(problems) - _MOST_TOLD),
        },
    )


def misfit(endpoint: str, problems: Sequence[Mapping[str, Any]]) -> Refusal:
    """The endpoint does not fit its deployment any more: no call of it could run."""
    first = problems[0]
    return Refusal(
        409,
        "endpoint_outdated",
        f"endpoint '{endpoint}' cannot run on this deployment as it is now: "
        f"{str(first['message']).rstrip('.')}. Publish it again, or bring back what is missing.",
        {"endpoint": endpoint, "problems": list(problems[:_MOST_TOLD])},
    )


def problem_json(problem: Problem, index: int | None = None) -> dict[str, Any]:
    """One problem as the door shows it."""
    given = printable(problem.given)
    return {
        "input": problem.input_name,
        "code": problem.code.value,
        "message": shortened(problem.message, _LONGEST),
        "given": shortened(given, _LONGEST) if isinstance(given, str) else given,
        "allowed": shortened(problem.allowed, _LONGEST),
        "nearest": list(problem.nearest),
        "hint": shortened(problem.hint, _LONGEST),
        "node_id": problem.node_id,
        "index": index,
    }
