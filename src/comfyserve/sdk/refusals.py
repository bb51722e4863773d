"""From an HTTP error to an error of ours; what is wrong with nodes in readable lines."""

import json
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from comfyserve.domain.errors import ComfyserveError, NotFound
from comfyserve.sdk.errors import ClientError, PromptRefused, Refused, ServerFailed, Unavailable

_MAY_WORK_LATER = frozenset(
    {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
)
_HINTS = "comfyserve"
"""The key beside ComfyUI's own ones, under which the server says how to mend it."""


def refusal(status: int, body: bytes) -> ComfyserveError:
    """Return the error that an answer stands for.

    Both doors are understood: the control API's `{"error": {"code", "message"}}` and ComfyUI's
    `{"error": {"type", "message", "details"}, "node_errors"}`.
    """
    document = _object(body)
    error = document.get("error")
    if not isinstance(error, Mapping):
        shown = error if isinstance(error, str) and error else _phrase(status)
        return _of_status(status, f"the server answered {status}: {shown}", "", ())
    if status == HTTPStatus.BAD_REQUEST and isinstance(document.get("node_errors"), Mapping):
        return prompt_refused(document, {})
    code = str(error.get("code") or error.get("type") or "")
    message = str(error.get("message") or _phrase(status))
    details = error.get("details") or error.get("extra_info")
    log_tail = details.get("log_tail") if isinstance(details, Mapping) else None
    evidence = [str(line) for line in log_tail] if isinstance(log_tail, list) else []
    problems = details.get("problems") if isinstance(details, Mapping) else None
    evidence += listed_problems(problems) if isinstance(problems, list) else []
    return _of_status(status, message, code, evidence)


def prompt_refused(body: Mapping[str, Any], titles: Mapping[str, str]) -> PromptRefused:
    """Return the error for ComfyUI's 400 to a prompt; `titles` names nodes by id."""
    error = body["error"]
    # The hint for the whole repeats those for its nodes, where there are any.
    lines = list(node_lines(body["node_errors"], titles)) or list(_hint_lines(error, ""))
    message = f"the workflow was refused: {_with_details(error)}"
    return PromptRefused(message, body=body, evidence=lines)


def listed_problems(problems: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was found about a workflow or its inputs, as lines: where, what, how to mend it."""
    lines = []
    for problem in problems:
        node, title, name = (problem.get(key) for key in ("node_id", "node_title", "input"))
        called = f' "{title}"' if title else ""
        where = [f"node {node}{called}"] if node else []
        where += [str(name)] if name else []
        said = _with_details(problem, str(name or ""))
        lines.append(": ".join([*where, said]))
        if hint := problem.get("hint"):
            lines.append(f"  hint: {hint}")
    return lines


def _of_status(
    status: int, message: str, code: str, evidence: list[str] | tuple[()]
) -> ComfyserveError:
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return NotFound(message, code=code or None)
    kind: type[ClientError] = Refused
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = Unavailable if status in _MAY_WORK_LATER else ServerFailed
    if status == HTTPStatus.UNAUTHORIZED:
        message += "; give it with --token or COMFYSERVE_TOKEN"
    return kind(message, code=code or None, evidence=evidence)


def node_lines(node_errors: Mapping[str, Any], titles: Mapping[str, str]) -> Iterator[str]:
    """Yield ComfyUI's `node_errors` as readable lines; `titles` names nodes by id."""
    for node_id, entry in node_errors.items():
        if not isinstance(entry, Mapping):
            continue
        errors = [error for error in entry.get("errors") or () if isinstance(error, Mapping)]
        class_type = str(entry.get("class_type") or "")
        title = _title_of(errors) or titles.get(node_id, "")
        named = f' "{title}"' if title and title != class_type else ""
        yield f"node {node_id}{named} ({class_type or 'unknown class'})"
        for error in errors:
            where = _input_of(error)
            yield (
                f"  {where}: {_with_details(error, where)}"
                if where
                else f"  {_with_details(error)}"
            )
            yield from _hint_lines(error, "    ")


def _hint_lines(error: Mapping[str, Any], indent: str) -> Iterator[str]:
    hints = error.get(_HINTS)
    if not isinstance(hints, Mapping):
        return
    if hint := hints.get("hint"):
        yield f"{indent}hint: {hint}"
    nearest = hints.get("nearest")
    if isinstance(nearest, list) and nearest and not hint:
        yield f"{indent}nearest: {', '.join(map(str, nearest))}"


def _with_details(error: Mapping[str, Any], where: str = "") -> str:
    message = str(error.get("message") or error.get("type") or "no reason given").strip()
    details = error.get("details")
    if not isinstance(details, str) or details.strip() in {"", where, message}:
        return message
    return f"{message.rstrip('.')}: {details.strip()}"


def _input_of(error: Mapping[str, Any]) -> str:
    extra = error.get("extra_info")
    return str(extra.get("input_name") or "") if isinstance(extra, Mapping) else ""


def _title_of(errors: list[Mapping[str, Any]]) -> str:
    for error in errors:
        hints = error.get(_HINTS)
        if isinstance(hints, Mapping) and hints.get("node_title"):
            return str(hints["node_title"])
    return ""


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"
