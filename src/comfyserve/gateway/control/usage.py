"""Health, usage and tokens."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from fastapi import APIRouter, Response

from comfyserve import __version__
from comfyserve.domain.ledger import Grouping, Row, Span, add_up
from comfyserve.domain.usage import Segment, total
from comfyserve.gateway import models as m
from comfyserve.gateway.auth import ADMIN, LOCAL, READ, Principal
from comfyserve.gateway.context import Gateway
from comfyserve.gateway.control.common import Caller, Parts, deployment_name
from comfyserve.gateway.cost_models import (
    DeploymentUsage,
    ReplicaUsage,
    TotalsModel,
    UsageGroup,
    UsageModel,
)
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
    by: Grouping | None = None,
) -> UsageModel:
    """What replicas did and what it cost; times are RFC 3339, or seconds since the epoch.

    `by` adds up in one more way: each of its groups is a part of the totals.
    """
    ledger = await _read(gateway, caller, deployment, _span(since, until))
    return UsageModel(
        totals=TotalsModel.of(total(ledger.segments, ledger.now)),
        deployments=[
            DeploymentUsage.of(row.totals, name=deployment_name(gateway, row.key))
            for row in ledger.by(Grouping.DEPLOYMENT)
        ],
        replicas=[
            ReplicaUsage.of(
                row.totals,
                id=row.key,
                deployment=deployment_name(gateway, ledger.first(row.key).deployment_id),
                gpu=ledger.first(row.key).gpu,
            )
            for row in ledger.by(Grouping.REPLICA)
        ],
        groups=[] if by is None else await _groups(gateway, ledger, by),
    )


@router.get("/usage.csv", tags=["usage"], response_class=Response)
async def get_usage_csv(
    gateway: Parts,
    caller: Caller,
    deployment: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    by: Grouping = Grouping.DEPLOYMENT,
) -> Response:
    """The groups of `GET /usage` as a table with a header, for a spreadsheet."""
    ledger = await _read(gateway, caller, deployment, _span(since, until))
    table = io.StringIO()
    fields = list(UsageGroup.model_fields)
    writer = csv.DictWriter(table, [by.value, *(name for name in fields if name != "key")])
    writer.writeheader()
    for group in await _groups(gateway, ledger, by):
        values = group.model_dump()
        writer.writerow({by.value: values.pop("key"), **values})
    return Response(table.getvalue(), media_type="text/csv; charset=utf-8")


@dataclass(frozen=True, slots=True)
class _Ledger:
    """The segments that a caller may see, cut to what was asked for."""

    segments: Sequence[Segment]
    now: float
    principal_of: Mapping[str, str] = field(default_factory=dict)

    def by(self, grouping: Grouping) -> list[Row]:
        """Added up in one way."""
        return add_up(self.segments, grouping, principal_of=self.principal_of, now=self.now)

    def first(self, replica_id: str) -> Segment:
        """A segment of this replica."""
        return next(item for item in self.segments if item.replica_id == replica_id)


def _span(since: datetime | None, until: datetime | None) -> Span:
    return Span(
        None if since is None else since.timestamp(), None if until is None else until.timestamp()
    )


async def _read(gateway: Gateway, caller: Principal, deployment: str | None, span: Span) -> _Ledger:
    wanted = (await gateway.deployer.find(deployment)).id if deployment else caller.deployment_id
    caller.require(READ, wanted)
    now = gateway.clock.now()
    found = await gateway.store.usage.segments(wanted, since=span.since, until=span.until)
    return _Ledger([span.clip(segment, now) for segment in found], now)


async def _groups(gateway: Gateway, ledger: _Ledger, by: Grouping) -> list[UsageGroup]:
    if by is Grouping.TOKEN:
        principals = await gateway.store.usage.principals(ledger.segments)
        ledger = replace(ledger, principal_of=principals)
    names = await _names(gateway, by)
    return [
        UsageGroup.of(row.totals, key=row.key, name=names.get(row.key, "")) for row in ledger.by(by)
    ]


async def _names(gateway: Gateway, by: Grouping) -> Mapping[str, str]:
    """What people call the keys of a grouping."""
    match by:
        case Grouping.DEPLOYMENT:
            return {item.id: item.name for item in gateway.runtime.deployments}
        case Grouping.TOKEN:
            named = {item.id: item.name for item in await gateway.store.tokens.list()}
            return {"": "(no job)", LOCAL.name: "this machine", **named}
        case Grouping.REPLICA | Grouping.DAY | Grouping.GPU:
            return {}


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
