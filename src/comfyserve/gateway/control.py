"""The control API under `/api/v1`: deployments, replicas, jobs, usage, tokens."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse

from comfyserve import __version__
from comfyserve.domain.deployment import Deployment, DeploymentState
from comfyserve.domain.errors import ComfyserveError, InvalidInput, NotFound
from comfyserve.domain.job import Job, JobState
from comfyserve.domain.replica import Cause, Replica, ReplicaState
from comfyserve.domain.spec import DeploymentSpec
from comfyserve.domain.usage import Segment, total
from comfyserve.gateway import models as m
from comfyserve.gateway.answers import raw_json
from comfyserve.gateway.auth import ADMIN, READ, RUN, Principal, authenticate
from comfyserve.gateway.context import Gateway, gateway_of
from comfyserve.gateway.errors import control_error
from comfyserve.gateway.job_events import event_stream, job_model
from comfyserve.gateway.logs import log_response
from comfyserve.store.jobs import JobFilter
from comfyserve.store.tokens import Scope, Token

_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": m.ErrorModel, "description": "The request cannot be served as it is."},
    "5XX": {"model": m.ErrorModel, "description": "Something failed on the server."},
}


async def _principal(request: Request) -> Principal:
    gateway = gateway_of(request)
    return await authenticate(request.scope, gateway.store.tokens, gateway.settings.domain)


Caller = Annotated[Principal, Depends(_principal)]
Parts = Annotated[Gateway, Depends(gateway_of)]


async def _known_query(request: Request) -> None:
    """Refuse a query parameter that the route does not have: a typo must not be ignored."""
    dependant = request.scope["route"].dependant
    known = {param.alias for param in dependant.query_params} | {"token"}
    for name in request.query_params:
        if name not in known:
            taken = ", ".join(sorted(known)) or "none"
            raise InvalidInput(f"unknown query parameter '{name[:80]}'; there is: {taken}")


router = APIRouter(responses=_ERRORS, dependencies=[Depends(_known_query)])


@router.get("/health/live", tags=["health"])
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/health/ready", tags=["health"])
async def ready(gateway: Parts) -> m.HealthModel:
    """The server takes work; this wakes nothing."""
    counts = (await gateway.store.jobs.all_counts()).values()
    deployments = gateway.runtime.deployments
    return m.HealthModel(
        status="ok",
        version=__version__,
        home=str(gateway.settings.home_path),
        deployments=len(deployments),
        replicas=sum(len(gateway.runtime.fleet(d.id).supervisors) for d in deployments),
        jobs=m.QueueModel(
            queued=sum(c.queued for c in counts), running=sum(c.active for c in counts)
        ),
    )


@router.get("/deployments", tags=["deployments"])
async def list_deployments(gateway: Parts, caller: Caller, request: Request) -> m.DeploymentList:
    """All deployments, oldest first."""
    caller.require(READ, caller.deployment_id)
    visible = [d for d in gateway.runtime.deployments if caller.deployment_id in (None, d.id)]
    return m.DeploymentList(deployments=[await _show(gateway, d, request) for d in visible])


@router.put("/deployments/{name}", tags=["deployments"], status_code=200)
async def put_deployment(
    name: str,
    spec: Annotated[DeploymentSpec, Body()],
    gateway: Parts,
    caller: Caller,
    request: Request,
    response: Response,
) -> m.DeploymentModel:
    """Create a deployment (201) or give it a new revision (200). Its engine is started once."""
    caller.require(ADMIN)
    kept = next((d.spec.port for d in gateway.runtime.deployments if d.name == name), None)
    async with gateway.listeners.reserved(spec.port, kept=kept):
        deployed = await gateway.deployer.deploy(name, spec)
    await _close_unused_ports(gateway)
    response.status_code = 201 if deployed.deployment.revision.number == 1 else 200
    shown = await _show(gateway, deployed.deployment, request)
    return shown.model_copy(update={"warnings": list(deployed.warnings)})


@router.get("/deployments/{name}", tags=["deployments"])
async def get_deployment(
    name: str, gateway: Parts, caller: Caller, request: Request
) -> m.DeploymentModel:
    """One deployment with its live replicas."""
    deployment = await gateway.deployer.find(name)
    caller.require(READ, deployment.id)
    return await _show(gateway, deployment, request)


@router.delete("/deployments/{name}", tags=["deployments"], status_code=204)
async def delete_deployment(name: str, gateway: Parts, caller: Caller) -> None:
    """Delete a deployment: open jobs are canceled, replicas stop; jobs and usage stay on record."""
    caller.require(ADMIN)
    await gateway.deployer.delete(name)
    await _close_unused_ports(gateway)


@router.post("/deployments/{name}/stop", tags=["deployments"])
async def stop_deployment(
    name: str, gateway: Parts, caller: Caller, request: Request
) -> m.DeploymentModel:
    """Take no new work; replicas stop when their jobs have ended."""
    caller.require(ADMIN)
    deployment = await gateway.deployer.set_state(name, DeploymentState.STOPPED)
    return await _show(gateway, deployment, request)


@router.post("/deployments/{name}/start", tags=["deployments"])
async def start_deployment(
    name: str, gateway: Parts, caller: Caller, request: Request
) -> m.DeploymentModel:
    """Take work again."""
    caller.require(ADMIN)
    deployment = await gateway.deployer.set_state(name, DeploymentState.ACTIVE)
    return await _show(gateway, deployment, request)


@router.post("/deployments/{name}/warm", tags=["deployments"])
async def warm_deployment(
    name: str, gateway: Parts, caller: Caller, request: Request
) -> m.DeploymentModel:
    """Wake a replica ahead of work; it idles out as any other."""
    deployment = await gateway.deployer.find(name)
    caller.require(RUN, deployment.id)
    gateway.runtime.fleet(deployment.id).warm()
    return await _show(gateway, deployment, request)


@router.get("/deployments/{name}/object_info", tags=["deployments"])
async def get_catalog(name: str, gateway: Parts, caller: Caller) -> Response:
    """The node catalog that was recorded when the revision was made."""
    deployment = await gateway.deployer.find(name)
    caller.require(READ, deployment.id)
    snapshot = await gateway.runtime.snapshot(deployment.revision.snapshot_digest)
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
    return await log_response(gateway.runtime.parts.launcher, newest.id, tail, follow=follow)


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
    replica = await _replica(gateway, replica_id)
    caller.require(READ, replica.deployment_id)
    return m.ReplicaModel.of(replica, _name_of(gateway, replica.deployment_id))


@router.post("/replicas/{replica_id}/stop", tags=["replicas"])
async def stop_replica(replica_id: str, gateway: Parts, caller: Caller) -> m.ReplicaModel:
    """Stop one replica once its job has ended; another is started if work waits."""
    replica = await _replica(gateway, replica_id)
    caller.require(ADMIN)
    if replica.is_live:
        for supervisor in gateway.runtime.fleet(replica.deployment_id).supervisors:
            if supervisor.id == replica_id and supervisor.state is not ReplicaState.STOPPING:
                supervisor.drain(Cause.STOPPED_BY_USER)
    return m.ReplicaModel.of(replica, _name_of(gateway, replica.deployment_id))


@router.get("/replicas/{replica_id}/logs", tags=["replicas"])
async def replica_logs(
    replica_id: str, gateway: Parts, caller: Caller, tail: int = 200, *, follow: bool = False
) -> Response:
    """The last lines of a replica's log; with `follow`, what comes until it ends."""
    replica = await _replica(gateway, replica_id)
    caller.require(READ, replica.deployment_id)
    return await log_response(gateway.runtime.parts.launcher, replica_id, tail, follow=follow)


@router.get("/jobs", tags=["jobs"])
async def list_jobs(  # noqa: PLR0913 - each is a query parameter
    gateway: Parts,
    caller: Caller,
    deployment: str | None = None,
    state: Annotated[list[JobState] | None, Query()] = None,
    label: Annotated[list[str] | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: str | None = None,
) -> m.JobList:
    """Jobs, newest first, in keyset pages."""
    wanted = (await gateway.deployer.find(deployment)).id if deployment else caller.deployment_id
    caller.require(READ, wanted)
    page = await gateway.store.jobs.list(
        JobFilter(
            deployment_id=wanted,
            states=frozenset(state or ()),
            labels=dict(_label(text) for text in label or ()),
        ),
        limit,
        cursor,
    )
    return m.JobList(
        jobs=[m.JobModel.of(job, _name_of(gateway, job.deployment_id)) for job in page.jobs],
        next_cursor=page.next_cursor,
    )


@router.get("/jobs/{job_id}", tags=["jobs"])
async def get_job(job_id: str, gateway: Parts, caller: Caller, request: Request) -> m.JobModel:
    """One job with its receipt and outputs."""
    job = await _job(gateway, caller, job_id)
    return await job_model(gateway, job, str(request.base_url))


@router.get("/jobs/{job_id}/events", tags=["jobs"])
async def job_events(job_id: str, gateway: Parts, caller: Caller, request: Request) -> Response:
    """The job's story as server-sent events, to its end."""
    job = await _job(gateway, caller, job_id)
    return StreamingResponse(
        event_stream(gateway, job, str(request.base_url)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.post("/jobs/{job_id}/cancel", tags=["jobs"])
async def cancel_job(job_id: str, gateway: Parts, caller: Caller, request: Request) -> m.JobModel:
    """Cancel a job in whatever state; on a finished one nothing happens."""
    job = await _job(gateway, caller, job_id, scope=RUN)
    canceled = await gateway.runtime.cancel(job.id) or job
    return await job_model(gateway, canceled, str(request.base_url))


@router.get("/usage", tags=["usage"])
async def get_usage(
    gateway: Parts,
    caller: Caller,
    deployment: str | None = None,
    since: float | None = None,
    until: float | None = None,
) -> m.UsageModel:
    """What replicas did and what it cost; times are seconds since the epoch."""
    wanted = (await gateway.deployer.find(deployment)).id if deployment else caller.deployment_id
    caller.require(READ, wanted)
    now = gateway.clock.now()
    segments = await gateway.store.usage.segments(deployment_id=wanted, since=since, until=until)
    by_deployment: dict[str, list[Segment]] = {}
    by_replica: dict[str, list[Segment]] = {}
    for segment in segments:
        by_deployment.setdefault(segment.deployment_id, []).append(segment)
        by_replica.setdefault(segment.replica_id, []).append(segment)
    return m.UsageModel(
        totals=m.TotalsModel.of(total(segments, now)),
        deployments=[
            m.DeploymentUsage.of(total(part, now), name=_name_of(gateway, key))
            for key, part in by_deployment.items()
        ],
        replicas=[
            m.ReplicaUsage.of(
                total(part, now),
                id=key,
                deployment=_name_of(gateway, part[0].deployment_id),
                gpu=part[0].gpu,
            )
            for key, part in by_replica.items()
        ],
    )


@router.get("/tokens", tags=["tokens"])
async def list_tokens(gateway: Parts, caller: Caller) -> m.TokenList:
    """All tokens, without their secrets."""
    caller.require(ADMIN)
    return m.TokenList(
        tokens=[_token(gateway, token) for token in await gateway.store.tokens.list()]
    )


@router.post("/tokens", tags=["tokens"], status_code=201)
async def create_token(new: m.NewToken, gateway: Parts, caller: Caller) -> m.TokenModel:
    """Make a token. Its secret is shown this once."""
    caller.require(ADMIN)
    wanted = (await gateway.deployer.find(new.deployment)).id if new.deployment else None
    token, secret = await gateway.store.tokens.create(
        new.name, frozenset(Scope(name) for name in new.scopes), wanted, gateway.clock.now()
    )
    return _token(gateway, token).model_copy(update={"secret": secret})


@router.delete("/tokens/{token_id}", tags=["tokens"], status_code=204)
async def revoke_token(token_id: str, gateway: Parts, caller: Caller) -> None:
    """Revoke a token; it is refused from now on."""
    caller.require(ADMIN)
    await gateway.store.tokens.revoke(token_id, gateway.clock.now())


def control_app(gateway: Gateway) -> FastAPI:
    """The control API as an application of its own; its paths begin with `/api/v1`."""
    app = FastAPI(
        title="comfyserve control API",
        version=__version__,
        description=__doc__ or "",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.gateway = gateway
    app.include_router(router, prefix="/api/v1")
    app.add_exception_handler(ComfyserveError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(404, _on_unknown)
    return app


async def _on_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ComfyserveError)  # noqa: S101 - registered for nothing else
    return control_error(error)


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    found = "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
    )
    return control_error(InvalidInput(found))


async def _on_unknown(request: Request, _: Exception) -> Response:
    return control_error(
        NotFound(f"there is no {request.method} {request.url.path}; see /api/v1/openapi.json")
    )


async def _close_unused_ports(gateway: Gateway) -> None:
    used = (deployment.spec.port for deployment in gateway.runtime.deployments)
    await gateway.listeners.keep_only(frozenset(port for port in used if port is not None))


async def _show(gateway: Gateway, deployment: Deployment, request: Request) -> m.DeploymentModel:
    fleet = gateway.runtime.fleet(deployment.id)
    counts = await gateway.store.jobs.counts(deployment.id)
    return m.DeploymentModel.of(
        deployment,
        f"{str(request.base_url).rstrip('/')}/d/{deployment.name}/",
        [supervisor.replica for supervisor in fleet.supervisors],
        m.QueueModel(queued=counts.queued, running=counts.active),
        fleet.last_start_error,
    )


async def _replica(gateway: Gateway, replica_id: str) -> Replica:
    found = await gateway.store.replicas.get(replica_id)
    if found is None:
        raise NotFound(f"there is no replica '{replica_id[:80]}'", code="replica_not_found")
    return found


async def _job(gateway: Gateway, caller: Principal, job_id: str, scope: str = READ) -> Job:
    found = await gateway.store.jobs.get(job_id)
    if found is None or caller.deployment_id not in (None, found.deployment_id):
        raise NotFound(f"there is no job '{job_id[:80]}'", code="job_not_found")
    caller.require(scope, found.deployment_id)
    return found


def _name_of(gateway: Gateway, deployment_id: str) -> str:
    names = {item.id: item.name for item in gateway.runtime.deployments}
    return names.get(deployment_id, "")


def _label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise InvalidInput(f"label must be KEY=VALUE, not '{text[:80]}'")
    return key, value


def _token(gateway: Gateway, token: Token) -> m.TokenModel:
    return m.TokenModel(
        id=token.id,
        name=token.name,
        scopes=sorted(token.scopes),
        deployment=_name_of(gateway, token.deployment_id) if token.deployment_id else None,
        created_at=token.created_at,
    )
