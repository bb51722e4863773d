"""Typed endpoints as the door uses them: published, loaded, and held against the catalog of now."""

import asyncio
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import msgspec

from comfyserve.domain.deployment import Deployment
from comfyserve.domain.errors import NotFound
from comfyserve.domain.ids import Prefix
from comfyserve.domain.typed import (
    EndpointDocument,
    EndpointVersion,
    TypedEndpoint,
    check_endpoint_name,
)
from comfyserve.gateway.context import Gateway
from comfyserve.gateway.errors import Refusal
from comfyserve.gateway.input_files import list_input_files
from comfyserve.runtime.runtime import new_id
from comfyserve.workflow import NodeCatalog, Problem
from comfyserve.workflow.check import problems_json
from comfyserve.workflow.interface import Interface, read_interface
from comfyserve.workflow.interface import to_json as interface_json
from comfyserve.workflow.plain import plain
from comfyserve.workflow.prepare import prepare
from comfyserve.workflow.publish import Publication, publication


@dataclass(frozen=True, slots=True)
class Loaded:
    """An endpoint with the document of its current version, read."""

    endpoint: TypedEndpoint
    document: EndpointDocument
    interface: Interface


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be published under a name."""

    name: str
    workflow: Any
    interface: Any = None
    allow_missing: bool = False
    reuse: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """The endpoint, and what its workflow lacks but may get later."""

    loaded: Loaded
    warnings: tuple[Problem, ...]


async def publish(
    gateway: Gateway, deployment: Deployment, wish: Wish, principal: str
) -> Published:
    """Check a workflow, and make it the current version of an endpoint.

    Raises InvalidInput for the name, and Refusal `workflow_refused` with all problems.
    """
    check_endpoint_name(wish.name)
    catalog = await current_catalog(gateway, deployment)
    found = await asyncio.to_thread(partial(_judge, wish, catalog))
    if found.problems:
        raise _refused(wish.name, found)
    document = EndpointDocument(
        prompt=found.prompt,
        interface=plain(interface_json(found.interface)),
        reuse=wish.reuse,
    )
    now = gateway.clock.now()
    version = EndpointVersion(0, deployment.revision.id, now, principal)
    new = TypedEndpoint(new_id(Prefix.ENDPOINT), deployment.id, wish.name, version, now, now)
    endpoint = await gateway.store.endpoints.publish(new, document, now)
    return Published(_loaded(endpoint, document), found.warnings)


async def find_endpoint(gateway: Gateway, deployment: Deployment, name: str) -> TypedEndpoint:
    """The endpoint of that name. Raises NotFound naming those that there are."""
    found = await gateway.store.endpoints.find(deployment.id, name)
    if found is None:
        listed = await gateway.store.endpoints.list(deployment.id)
        names = ", ".join(each.name for each in listed[:20]) or "none yet"
        raise NotFound(
            f"deployment '{deployment.name}' has no endpoint '{name[:80]}'; there is: {names}",
            code="endpoint_not_found",
        )
    return found


async def load(gateway: Gateway, endpoint: TypedEndpoint) -> Loaded:
    """Read the current version of an endpoint."""
    return _loaded(endpoint, await gateway.store.endpoints.document(endpoint))


async def misfits(gateway: Gateway, deployment: Deployment, loaded: Loaded) -> tuple[Problem, ...]:
    """What keeps an endpoint from running on its deployment as it is now."""
    catalog = await current_catalog(gateway, deployment)
    wish = Wish(loaded.endpoint.name, loaded.document.prompt, loaded.document.interface)
    return (await asyncio.to_thread(partial(_judge, wish, catalog))).problems


async def current_catalog(gateway: Gateway, deployment: Deployment) -> NodeCatalog:
    """The node classes of a deployment, with the input files of now."""
    snapshot = await gateway.snapshot(deployment)
    return snapshot.catalog_with(await list_input_files(gateway.runtime.input_dir(deployment.id)))


def _judge(wish: Wish, catalog: NodeCatalog) -> Publication:
    prepared = prepare(wish.workflow, catalog)
    return publication(prepared, catalog, wish.interface, allow_missing=wish.allow_missing)


def _loaded(endpoint: TypedEndpoint, document: EndpointDocument) -> Loaded:
    return Loaded(endpoint, document, _read(msgspec.json.encode(document.interface)))


@lru_cache(maxsize=256)
def _read(data: bytes) -> Interface:
    return read_interface(msgspec.json.decode(data))


def _refused(name: str, found: Publication) -> Refusal:
    first = found.problems[0]
    more = len(found.problems) - 1
    where = f"node {first.node_id}: " if first.node_id is not None else ""
    also = f" (and {more} more)" if more else ""
    return Refusal(
        422,
        "workflow_refused",
        f"'{name}' was not published: {where}{first.message.rstrip('.')}{also}",
        {**problems_json(found.problems), "requirements": plain(found.requirements.to_json())},
    )
