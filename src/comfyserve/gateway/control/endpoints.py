"""Typed endpoints: publish, list, roll back, delete."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from comfyserve.domain.deployment import Deployment
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.typed import TypedEndpoint
from comfyserve.gateway.auth import ADMIN, READ
from comfyserve.gateway.context import Gateway, read_body
from comfyserve.gateway.control.common import Caller, Parts
from comfyserve.gateway.models import Time
from comfyserve.gateway.resolve import default_of
from comfyserve.gateway.typed.endpoints import (
    Loaded,
    Wish,
    find_endpoint,
    load,
    misfits,
    publish,
)
from comfyserve.gateway.workflow_models import InterfaceModel, ProblemModel
from comfyserve.workflow import Problem
from comfyserve.workflow.check import problems_json

router = APIRouter()

Of = Annotated[str | None, Query(description="The deployment; without it the default one.")]


class PublishModel(BaseModel):
    """What is to be published."""

    model_config = ConfigDict(extra="forbid")

    workflow: dict[str, Any] = Field(description="In API format, or as the editor exports it.")
    interface: dict[str, Any] | None = Field(
        default=None, description="In place of the inferred one; start from what `GET` shows."
    )
    allow_missing: bool = Field(
        default=False, description="Accept it although model files are lacking."
    )
    reuse: bool = Field(
        default=False, description="Answer a repeated call with the stored outputs of the first."
    )


class EndpointModel(BaseModel):
    """A typed endpoint. `problems`: why it does not fit the deployment as it is now."""

    name: str
    deployment: str
    url: str
    version: int
    published_at: Time
    published_by: str
    created_at: Time
    reuse: bool
    interface: InterfaceModel
    problems: list[ProblemModel] = []
    warnings: list[ProblemModel] = []


class EndpointRow(BaseModel):
    """A typed endpoint in a list."""

    name: str
    deployment: str
    url: str
    version: int
    published_at: Time
    published_by: str


class EndpointList(BaseModel):
    """The endpoints that the caller may see."""

    endpoints: list[EndpointRow]


class VersionModel(BaseModel):
    """One published version."""

    number: int
    current: bool
    published_at: Time
    published_by: str
    revision: str


class VersionList(BaseModel):
    """All versions of an endpoint, the newest first."""

    versions: list[VersionModel]


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": PublishModel.model_json_schema()}},
    }
}


@router.get("/endpoints", tags=["endpoints"])
async def list_endpoints(
    gateway: Parts, caller: Caller, request: Request, deployment: Of = None
) -> EndpointList:
    """Typed endpoints of one deployment, or of all."""
    wanted = await gateway.deployer.find(deployment) if deployment else None
    caller.require(READ, wanted.id if wanted else caller.deployment_id)
    found = [wanted] if wanted else gateway.runtime.deployments
    visible = [each for each in found if caller.deployment_id in (None, each.id)]
    return EndpointList(
        endpoints=[
            _row(endpoint, each, request)
            for each in visible
            for endpoint in await gateway.store.endpoints.list(each.id)
        ]
    )


@router.put("/endpoints/{name}", tags=["endpoints"], openapi_extra=_BODY)
async def publish_endpoint(
    name: str,
    gateway: Parts,
    caller: Caller,
    request: Request,
    response: Response,
    deployment: Of = None,
) -> EndpointModel:
    """Publish a workflow as the next version: 201 for a new endpoint, 422 with all reasons if refused."""
    on = await _deployment(gateway, deployment)
    caller.require(ADMIN, on.id)
    wish = _read(name, await read_body(request, gateway.settings.max_body_bytes))
    published = await publish(gateway, on, wish, caller.name)
    response.status_code = 201 if published.loaded.endpoint.version.number == 1 else 200
    return _show(published.loaded, on, request, warnings=published.warnings)


@router.get("/endpoints/{name}", tags=["endpoints"])
async def get_endpoint(
    name: str, gateway: Parts, caller: Caller, request: Request, deployment: Of = None
) -> EndpointModel:
    """One endpoint, and whether it fits the deployment as it is now."""
    on = await _deployment(gateway, deployment)
    caller.require(READ, on.id)
    loaded = await load(gateway, await find_endpoint(gateway, on, name))
    return _show(loaded, on, request, problems=await misfits(gateway, on, loaded))


@router.delete("/endpoints/{name}", tags=["endpoints"], status_code=204)
async def delete_endpoint(name: str, gateway: Parts, caller: Caller, deployment: Of = None) -> None:
    """Delete an endpoint with all its versions. Its jobs stay."""
    on = await _deployment(gateway, deployment)
    caller.require(ADMIN, on.id)
    await gateway.store.endpoints.delete(await find_endpoint(gateway, on, name))


@router.get("/endpoints/{name}/versions", tags=["endpoints"])
async def list_versions(
    name: str, gateway: Parts, caller: Caller, deployment: Of = None
) -> VersionList:
    """All versions, the newest first."""
    on = await _deployment(gateway, deployment)
    caller.require(READ, on.id)
    endpoint = await find_endpoint(gateway, on, name)
    return VersionList(
        versions=[
            VersionModel(
                number=each.number,
                current=each.number == endpoint.version.number,
                published_at=each.created_at,
                published_by=each.principal,
                revision=each.revision_id,
            )
            for each in await gateway.store.endpoints.versions(endpoint)
        ]
    )


@router.post("/endpoints/{name}/versions/{number}/use", tags=["endpoints"])
async def use_version(
    name: str,
    number: int,
    gateway: Parts,
    caller: Caller,
    request: Request,
    deployment: Of = None,
) -> EndpointModel:
    """Make a version the current one, older or newer."""
    on = await _deployment(gateway, deployment)
    caller.require(ADMIN, on.id)
    endpoint = await find_endpoint(gateway, on, name)
    most = 2**31
    if not 0 < number < most:
        raise InvalidInput(f"a version is a number from 1 on, not {str(number)[:20]}")
    used = await gateway.store.endpoints.use_version(endpoint, number, gateway.clock.now())
    loaded = await load(gateway, used)
    return _show(loaded, on, request, problems=await misfits(gateway, on, loaded))


async def _deployment(gateway: Gateway, name: str | None) -> Deployment:
    if name is not None:
        return await gateway.deployer.find(name)
    return default_of(gateway.runtime.deployments)


def _read(name: str, body: bytes) -> Wish:
    try:
        sent = PublishModel.model_validate_json(body)
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}"
            for item in error.errors()[:10]
        )
        raise InvalidInput(found) from None
    return Wish(name, sent.workflow, sent.interface, sent.allow_missing, sent.reuse)


def _row(endpoint: TypedEndpoint, on: Deployment, request: Request) -> EndpointRow:
    return EndpointRow(
        name=endpoint.name,
        deployment=on.name,
        url=_url(endpoint, on, request),
        version=endpoint.version.number,
        published_at=endpoint.version.created_at,
        published_by=endpoint.version.principal,
    )


def _show(
    loaded: Loaded,
    on: Deployment,
    request: Request,
    *,
    problems: Sequence[Problem] = (),
    warnings: Sequence[Problem] = (),
) -> EndpointModel:
    endpoint = loaded.endpoint
    return EndpointModel(
        name=endpoint.name,
        deployment=on.name,
        url=_url(endpoint, on, request),
        version=endpoint.version.number,
        published_at=endpoint.version.created_at,
        published_by=endpoint.version.principal,
        created_at=endpoint.created_at,
        reuse=loaded.document.reuse,
        interface=InterfaceModel.model_validate(loaded.document.interface),
        problems=problems_json(problems)["problems"],
        warnings=problems_json(warnings)["problems"],
    )


def _url(endpoint: TypedEndpoint, on: Deployment, request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}/d/{on.name}/run/{endpoint.name}"
