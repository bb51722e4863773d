"""Answers as ComfyUI writes them: JSON with its content type, empty bodies for control routes."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

JSON_TYPE = "application/json; charset=utf-8"


def json_response(
    content: Any,  # noqa: ANN401 - the JSON border
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Encode `content` as JSON."""
    return raw_json(msgspec.json.encode(content), status, headers)


def raw_json(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Send bytes that already are JSON."""
    return Response(body, status, dict(headers or {}), JSON_TYPE)


def empty(status: int = 200) -> Response:
    """No body, as ComfyUI answers its control routes and its 404s."""
    return Response(b"", status)
