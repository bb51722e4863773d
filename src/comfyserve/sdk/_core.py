"""The rules between declarations and the control API: JSON to values and back. PURE."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from comfyserve.domain.spec import DeploymentSpec
from comfyserve.sdk.errors import ServerFailed

SLACK_S = 120.0
"""What a deploy may take on top of the engine's start: its checks, its questions, its stop."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment as the server shows it."""

    name: str
    url: str
    status: str
    revision: int
    message: str = ""
    log_tail: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def spec_json(spec: DeploymentSpec) -> bytes:
    """The body that asks for a deployment."""
    return json.dumps(asdict(spec)).encode()


def read_object(data: bytes, what: str) -> Mapping[str, Any]:
    """An answer of the control API. Raises ServerFailed for anything but a JSON object."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _unexpected(what) from error
    if not isinstance(document, dict):
        raise _unexpected(what)
    return document


def read_deployed(data: bytes) -> Deployed:
    """A deployment. Raises ServerFailed."""
    document = read_object(data, "a deployment")
    try:
        error = document.get("last_start_error") or {}
        return Deployed(
            name=str(document["name"]),
            url=str(document["url"]),
            status=str(document["status"]),
            revision=int(document["revision"]),
            message=str(error.get("message", "")),
            log_tail=tuple(map(str, error.get("log_tail", ()))),
            warnings=tuple(map(str, document.get("warnings") or ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unexpected("a deployment") from error


def _unexpected(what: str) -> ServerFailed:
    return ServerFailed(
        f"the server answered something else than {what}; check COMFYSERVE_URL, and that client "
        "and server are of one version"
    )
