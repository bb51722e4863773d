"""What a deployment was and will be: its revisions, the way back, and replicas that are kept."""

from typing import Annotated

from fastapi import APIRouter, Body, Request

from comfyserve.gateway import models as m
from comfyserve.gateway import models_lives as ml
from comfyserve.gateway.auth import ADMIN, READ, RUN
from comfyserve.gateway.control.common import Caller, Parts, close_unused_ports, show_deployment

router = APIRouter()


@router.get("/deployments/{name}/revisions", tags=["deployments"])
async def list_revisions(name: str, gateway: Parts, caller: Caller) -> ml.RevisionList:
    """All revisions, oldest first; each can be made the current one again."""
    deployment, revisions = await gateway.deployer.revisions(name)
    caller.require(READ, deployment.id)
    return ml.RevisionList(
        revisions=[ml.RevisionModel.of(revision, deployment) for revision in revisions]
    )


@router.post("/deployments/{name}/rollback", tags=["deployments"])
async def roll_back(
    name: str,
    gateway: Parts,
    caller: Caller,
    request: Request,
    wish: Annotated[ml.Rollback | None, Body()] = None,
) -> m.DeploymentModel:
    """Make an earlier revision the current one; replicas that are awake are replaced without a gap."""
    caller.require(ADMIN)
    current = await gateway.deployer.find(name)
    number = wish.revision if wish is not None else None
    revision = await gateway.deployer.earlier(current, number)
    async with gateway.listeners.reserved(revision.spec.port, kept=current.spec.port):
        deployment = await gateway.deployer.rollback(name, revision.number)
    await close_unused_ports(gateway)
    return await show_deployment(gateway, deployment, request)


@router.post("/deployments/{name}/keep-alive", tags=["deployments"])
async def keep_alive(name: str, wish: ml.KeepAlive, gateway: Parts, caller: Caller) -> ml.Kept:
    """Do not count the ready replicas as idle for some time: they work without a request."""
    deployment = await gateway.deployer.find(name)
    caller.require(RUN, deployment.id)
    ready = gateway.runtime.fleet(deployment.id).ready
    for supervisor in ready:
        supervisor.keep(wish.seconds)
    return ml.Kept(replicas=[supervisor.id for supervisor in ready])
