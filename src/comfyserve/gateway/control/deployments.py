"""Deployments: create, change, stop, start, delete, and their catalog and log."""

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response

from comfyserve.domain.deployment import DeploymentState
from comfyserve.domain.errors import NotFound
from comfyserve.gateway import models as m
from comfyserve.gateway.answers import raw_json
from comfyserve.gateway.auth import ADMIN, READ, RUN
from comfyserve.gateway.control.common import Caller, Parts, close_unused_ports, show_deployment
from comfyserve.gateway.deploy_order import DeployOrder
from comfyserve.gateway.logs import log_response

router = APIRouter()


@router.get("/deployments", tags=["deployments"])
async def list_deployments(gateway: Parts, caller: Caller, request: Request) -> m.DeploymentList:
    """All deployments, oldest first."""
    caller.require(READ, caller.deployment_id)
    visible = [d for d in gateway.runtime.deployments if caller.deployment_id in (None, d.id)]
    return m.DeploymentList(
        deployments=[await show_deployment(gateway, d, request) for d in visible]
    )


@router.put("/deployments/{name}", tags=["deployments"], status_code=200)
async def put_deployment(
    name: str,
    order: Annotated[DeployOrder, Body()],
    gateway: Parts,
    caller: Caller,
    request: Request,
    response: Response,
) -> m.DeploymentModel:
    """Create a deployment (201) or give it a new revision (200). Its engine is started once.

    With `checks`, workflows that must be able to run on it, or nothing is deployed.
    """
    caller.require(ADMIN)
    spec = order.spec
    kept = next((d.spec.port for d in gateway.runtime.deployments if d.name == name), None)
    async with gateway.listeners.reserved(spec.port, kept=kept):
        deployed = await gateway.deployer.deploy(name, spec, order.files)
    await close_unused_ports(gateway)
    response.status_code = 201 if deployed.deployment.revision.number == 1 else 200
    shown = await show_deployment(gateway, deployed.deployment, request)
    return shown.model_copy(update={"warnings": list(deployed.warnings)})


@router.get("/deployments/{name}", tags=["deployments"])
async def get_deployment(
    name: str, gateway: Parts, caller: Caller, request: Request
) -> m.DeploymentModel:
    """One deployment with its live replicas."""
    deployment = await gateway.deployer.find(name)
    caller.require(READ, deployment.id)
    return await show_deployment(gateway, deployment, request)


@router.delete("/deployments/{name}", tags=["deployments"], status_code=204)
async def delete_deployment(name: str, gateway: Parts, caller: Caller) -> None:
    """Delete a deployment: open jobs are canceled, replicas stop; jobs and usage stay on record."""
    caller.require(ADMIN)
    await gateway.deployer.delete(name)
    await close_unused_ports(gateway)


@router.post("/deployments/{name}/stop", tags=["deployments"])
async def stop_deployment(
    name: str, gateway: Parts, caller: Caller, request: Request
) -> m.DeploymentModel:
    """Take no new work; replicas stop when their jobs have ended."""
    caller.require(ADMIN)
    deployment = await gateway.deployer.set_state(name, DeploymentState.STOPPED)
    return await show_deployment(gateway, deployment, request)


@router.post("/deployments/{name}/start", tags=["deployments"])
async def start_deployment(
    name: str, gateway: Parts, caller: Caller, request: Request
) -> m.DeploymentModel:
    """Take work again."""
    caller.require(ADMIN)
    deployment = await gateway.deployer.set_state(name, DeploymentState.ACTIVE)
    return await show_deployment(gateway, deployment, request)


@router.post("/deployments/{name}/warm", tags=["deployments"])
async def warm_deployment(
    name: str, gateway: Parts, caller: Caller, request: Request
) -> m.DeploymentModel:
    """Wake a replica ahead of work; it idles out as any other."""
    deployment = await gateway.deployer.find(name)
    caller.require(RUN, deployment.id)
    await gateway.budgets.check(deployment.id, deployment.name, caller.name)
    gateway.runtime.fleet(deployment.id).warm()
    return await show_deployment(gateway, deployment, request)


@router.get("/deployments/{name}/object_info", tags=["deployments"])
async def get_catalog(name: str, gateway: Parts, caller: Caller) -> Response:
    """The node catalog that was recorded when the revision was made."""
    deployment = await gateway.deployer.find(name)
    caller.require(READ, deployment.id)
    snapshot = await gateway.snapshot(deployment)
    return raw_json(snapshot.object_info)


@router.get("/deployments/{name}/logs", tags=["deployments"])
async def deployment_logs(
    name: str, gateway: Parts, caller: Caller, tail: int = 200, *, follow: bool = False
) -> Response:
    """The log of the newest replica."""
    deployment = await gateway.deployer.find(name)
    caller.require(READ, deployment.id)
    replicas = await gateway.store.replicas.list(deployment_id=deployment.id)
    if not replicas:
        raise NotFound(f"'{name}' has had no replica yet", code="replica_not_found")
    newest = max(replicas, key=lambda replica: replica.created_at)
    return await log_response(gateway.runtime.parts.logs, newest.id, tail, follow=follow)
