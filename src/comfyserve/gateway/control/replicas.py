"""Replicas: what runs, since when and why; their logs."""

from fastapi import APIRouter, Response

from comfyserve.domain.replica import Cause, ReplicaState
from comfyserve.gateway import models as m
from comfyserve.gateway.auth import ADMIN, READ
from comfyserve.gateway.control.common import (
    Caller,
    Parts,
    deployment_name,
    find_replica,
)
from comfyserve.gateway.logs import log_response

router = APIRouter()


@router.get("/replicas", tags=["replicas"])
async def list_replicas(
    gateway: Parts,
    caller: Caller,
    deployment: str | None = None,
    *,
    all: bool = False,  # noqa: A002 - the query's name
) -> m.ReplicaList:
    """Live replicas; with `all`, ended ones too."""
    wanted = (await gateway.deployer.find(deployment)).id if deployment else caller.deployment_id
    caller.require(READ, wanted)
    found = await gateway.store.replicas.list(deployment_id=wanted, live_only=not all)
    names = {item.id: item.name for item in gateway.runtime.deployments}
    return m.ReplicaList(
        replicas=[m.ReplicaModel.of(r, names.get(r.deployment_id, "")) for r in found]
    )


@router.get("/replicas/{replica_id}", tags=["replicas"])
async def get_replica(replica_id: str, gateway: Parts, caller: Caller) -> m.ReplicaModel:
    """One replica, also after its end."""
    replica = await find_replica(gateway, replica_id)
    caller.require(READ, replica.deployment_id)
    return m.ReplicaModel.of(replica, deployment_name(gateway, replica.deployment_id))


@router.post("/replicas/{replica_id}/stop", tags=["replicas"])
async def stop_replica(replica_id: str, gateway: Parts, caller: Caller) -> m.ReplicaModel:
    """Stop one replica once its job has ended; another is started if work waits."""
    replica = await find_replica(gateway, replica_id)
    caller.require(ADMIN)
    if replica.is_live:
        for supervisor in gateway.runtime.fleet(replica.deployment_id).supervisors:
            if supervisor.id == replica_id and supervisor.state is not ReplicaState.STOPPING:
                supervisor.drain(Cause.STOPPED_BY_USER)
    return m.ReplicaModel.of(replica, deployment_name(gateway, replica.deployment_id))


@router.get("/replicas/{replica_id}/logs", tags=["replicas"])
async def replica_logs(
    replica_id: str, gateway: Parts, caller: Caller, tail: int = 200, *, follow: bool = False
) -> Response:
    """The last lines of a replica's log; with `follow`, what comes until it ends."""
    replica = await find_replica(gateway, replica_id)
    caller.require(READ, replica.deployment_id)
    return await log_response(gateway.runtime.parts.logs, replica_id, tail, follow=follow)
