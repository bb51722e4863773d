"""What every handler is given: the parts of the server that the gateway may use."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from starlette.requests import ClientDisconnect, Request

from comfyserve.clock import Clock
from comfyserve.domain.deployment import Deployment
from comfyserve.domain.errors import InvalidInput, PayloadTooLarge
from comfyserve.gateway.histories import Histories
from comfyserve.gateway.listeners import Listeners
from comfyserve.runtime.budgets import Budgets
from comfyserve.runtime.builds import Builds
from comfyserve.runtime.bus import Bus
from comfyserve.runtime.courier import Courier
from comfyserve.runtime.deploy import Deployer
from comfyserve.runtime.outside import Outside
from comfyserve.runtime.runtime import Runtime
from comfyserve.runtime.snapshot import Snapshot
from comfyserve.runtime.volumes import VolumeModels
from comfyserve.settings import Settings
from comfyserve.store import Store


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of the server, as `request.app.state.gateway`."""

    store: Store
    runtime: Runtime
    deployer: Deployer
    bus: Bus
    clock: Clock
    settings: Settings
    histories: Histories
    listeners: Listeners
    budgets: Budgets
    outside: Outside
    courier: Courier
    volumes: VolumeModels
    builds: Builds

    async def snapshot(self, deployment: Deployment) -> Snapshot:
        """What the deployment's engine said of itself, with the models that are on its volumes now."""
        revision = deployment.revision
        recorded = await self.runtime.snapshot(revision.snapshot_digest)
        return await self.volumes.current(revision.snapshot_digest, recorded, revision.spec)

    upstream: aiohttp.ClientSession
    """For exchanges that are passed on to replicas as they are."""


@dataclass(frozen=True)
class Target:
    """The deployment that a native request is for, with its recorded answers."""

    deployment: Deployment
    snapshot: Snapshot
    input_dir: Path

    @cached_property
    def version(self) -> tuple[int, ...]:
        """The ComfyUI version that it behaves as; empty while unknown."""
        parts = self.deployment.revision.engine_version.split(".")
        return tuple(int(part) for part in parts if part.isdecimal())


def gateway_of(request: Request) -> Gateway:
    """The parts of the server that this request came to."""
    gateway: Gateway = request.app.state.gateway
    return gateway


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Read a body of at most `limit_bytes`. Raises PayloadTooLarge."""
    chunks, size, has_more = [], 0, True
    while has_more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise PayloadTooLarge(
                f"the body is larger than {limit_bytes} bytes (setting max_body_bytes)"
            )
        chunks.append(chunk)
        has_more = message.get("more_body", False)
    return b"".join(chunks)


def decode_json(body: bytes) -> Any:  # noqa: ANN401 - the JSON border
    """Decode JSON as Python's own reader does (NaN and Infinity included). Raises InvalidInput."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as strict_error:
        if b"NaN" not in body and b"Infinity" not in body:
            raise InvalidInput(
                f"the body is not JSON: {strict_error}", code="invalid_json"
            ) from None
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply", code="invalid_json") from None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the body is not JSON: {error}", code="invalid_json") from error


def as_mapping(value: object, what: str) -> Mapping[str, Any]:
    """`value` if it is a JSON object. Raises InvalidInput."""
    if isinstance(value, dict):
        return value
    raise InvalidInput(f"{what} must be a JSON object, not {type(value).__name__}")
