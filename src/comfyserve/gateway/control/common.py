"""What all control routes share: who is asking, and how things are found and shown."""

import asyncio
from typing import Annotated

from fastapi import Depends, Request

from comfyserve.domain.deployment import Deployment
from comfyserve.domain.errors import NotFound, Unauthorized
from comfyserve.domain.job import Job
from comfyserve.domain.replica import Replica
from comfyserve.gateway import models as m
from comfyserve.gateway.auth import LOCAL, READ, Principal, authenticate
from comfyserve.gateway.context import Gateway, gateway_of
from comfyserve.runtime.peers import is_from_replica

_READS = frozenset({"GET", "HEAD"})


async def identify(request: Request) -> Principal:
    """Who is asking. What runs in a replica changes nothing for being on the machine: it needs a token."""
    gateway = gateway_of(request)
    scope = request.scope
    principal = await authenticate(scope, gateway.store.tokens, gateway.settings.domain)
    if principal is LOCAL and request.method not in _READS:
        client, server = scope["client"], scope["server"]
        if await asyncio.to_thread(is_from_replica, client[1], server[1]):
            raise Unauthorized(
                "what runs in a replica needs a token here, such as the one in COMFYSERVE_INSIDE_TOKEN"
            )
    return principal


async def _parts(request: Request) -> Gateway:
    # Not `gateway_of` itself: FastAPI would call it in a thread, for each request.
    return gateway_of(request)


Caller = Annotated[Principal, Depends(identify)]
Parts = Annotated[Gateway, Depends(_parts)]


async def show_deployment(
    gateway: Gateway, deployment: Deployment, request: Request
) -> m.DeploymentModel:
    """A deployment with its live replicas and its queue."""
    fleet = gateway.runtime.fleet(deployment.id)
    if deployment.revision.is_plain:
        work = m.QueueModel(queued=fleet.traffic.waiting, running=fleet.traffic.in_flight)
    else:
        counts = await gateway.store.jobs.counts(deployment.id)
        work = m.QueueModel(queued=counts.queued, running=counts.active)
    return m.DeploymentModel.of(
        deployment,
        address_of(gateway, deployment.name, request),
        [supervisor.replica for supervisor in fleet.supervisors],
        work,
        fleet.last_start_error,
    )


def address_of(gateway: Gateway, name: str, request: Request) -> str:
    """Where a deployment is, for whoever asks: under the domain if that is how they came."""
    public, url = gateway.settings.public, request.url
    host = url.hostname or ""
    if public is not None and (host == public.domain or host.endswith(f".{public.domain}")):
        port = "" if url.port is None else f":{url.port}"
        return f"{url.scheme}://{name}.{public.domain}{port}/"
    return f"{str(request.base_url).rstrip('/')}/d/{name}/"


async def close_unused_ports(gateway: Gateway) -> None:
    """Stop listening where no deployment has its port any more."""
    used = (deployment.spec.port for deployment in gateway.runtime.deployments)
    await gateway.listeners.keep_only(frozenset(port for port in used if port is not None))


async def find_replica(gateway: Gateway, replica_id: str) -> Replica:
    """The replica with this id. Raises NotFound."""
    found = await gateway.store.replicas.get(replica_id)
    if found is None:
        raise NotFound(f"there is no replica '{replica_id[:80]}'", code="replica_not_found")
    return found


async def find_job(gateway: Gateway, caller: Principal, job_id: str, scope: str = READ) -> Job:
    """The job with this id, if the caller may see it; a foreign one is not found. Raises Forbidden."""
    found = await gateway.store.jobs.get(job_id)
    if found is None or caller.deployment_id not in (None, found.deployment_id):
        raise NotFound(f"there is no job '{job_id[:80]}'", code="job_not_found")
    caller.require(scope, found.deployment_id)
    return found


def deployment_name(gateway: Gateway, deployment_id: str) -> str:
    """Its name, empty once it is deleted."""
    names = {item.id: item.name for item in gateway.runtime.deployments}
    return names.get(deployment_id, "")
