"""Typed endpoints and their versions: one workflow under a name, with a typed interface."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.spec import NAME_PATTERN


@dataclass(frozen=True, slots=True)
class EndpointDocument:
    """What a version of a typed endpoint runs.

    `interface` is the JSON form of `comfyserve.workflow.interface`.
    """

    prompt: Mapping[str, Any]
    interface: Mapping[str, Any]
    reuse: bool = False


@dataclass(frozen=True, slots=True)
class EndpointVersion:
    """One published version; it never changes. `revision_id` is what it was checked against."""

    number: int
    revision_id: str
    created_at: float
    principal: str


@dataclass(frozen=True, slots=True)
class TypedEndpoint:
    """A workflow under a name of its deployment; `version` is the one that calls get."""

    id: str
    deployment_id: str
    name: str
    version: EndpointVersion
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class JobCall:
    """What a job is a call of.

    `inputs` are those that were given, files as the ids of assets; `outputs` names nodes.
    """

    endpoint: str
    version: int
    inputs: Mapping[str, Any]
    outputs: Mapping[str, str]
    batch_id: str | None = None
    batch_index: int | None = None
    reuse_key: str | None = None
    reused_from: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Many calls of one endpoint, accepted together."""

    id: str
    deployment_id: str
    endpoint: str
    version: int
    size: int
    labels: Mapping[str, str]
    principal: str
    created_at: float


def check_endpoint_name(name: str) -> None:
    """Raise InvalidInput for a name that cannot be part of an address."""
    if NAME_PATTERN.fullmatch(name) is None:
        raise InvalidInput(
            f"'{name[:80]}' is no name for an endpoint: lowercase letters, digits and '-', "
            "1 to 63 of them, beginning and ending with a letter or digit",
            code="invalid_name",
        )
