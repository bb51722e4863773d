"""Health, usage and tokens."""

from datetime import datetime

from fastapi import APIRouter

from comfyserve import __version__
from comfyserve.domain.usage import Segment, total
from comfyserve.gateway import models as m
from comfyserve.gateway.auth import ADMIN, READ
from comfyserve.gateway.context import Gateway
from comfyserve.gateway.control.common import Caller, Parts, deployment_name
from comfyserve.store.tokens import Scope, Token

router = APIRouter()


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


@router.get("/usage", tags=["usage"])
async def get_usage(
    gateway: Parts,
    caller: Caller,
    deployment: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> m.UsageModel:
    """What replicas did and what it cost; times are RFC 3339, or seconds since the epoch."""
    wanted = (await gateway.deployer.find(deployment)).id if deployment else caller.deployment_id
    caller.require(READ, wanted)
    now = gateway.clock.now()
    segments = await gateway.store.usage.segments(
        deployment_id=wanted,
        since=None if since is None else since.timestamp(),
        until=None if until is None else until.timestamp(),
    )
    by_deployment: dict[str, list[Segment]] = {}
    by_replica: dict[str, list[Segment]] = {}
    for segment in segments:
        by_deployment.setdefault(segment.deployment_id, []).append(segment)
        by_replica.setdefault(segment.replica_id, []).append(segment)
    return m.UsageModel(
        totals=m.TotalsModel.of(total(segments, now)),
        deployments=[
            m.DeploymentUsage.of(total(part, now), name=deployment_name(gateway, key))
            for key, part in by_deployment.items()
        ],
        replicas=[
            m.ReplicaUsage.of(
                total(part, now),
                id=key,
                deployment=deployment_name(gateway, part[0].deployment_id),
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


def _token(gateway: Gateway, token: Token) -> m.TokenModel:
    return m.TokenModel(
        id=token.id,
        name=token.name,
        scopes=sorted(token.scopes),
        deployment=deployment_name(gateway, token.deployment_id) if token.deployment_id else None,
        created_at=token.created_at,
    )
