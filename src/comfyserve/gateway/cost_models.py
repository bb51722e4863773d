"""What things cost, as the control API shows it."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, Field

from comfyserve.domain.budget import BudgetKind
from comfyserve.domain.estimate import Basis
from comfyserve.domain.usage import Totals
from comfyserve.gateway.models import Model, Time


class TotalsModel(Model):
    """Seconds of replicas by what they did, and the price of the billed ones."""

    starting_s: float
    busy_s: float
    idle_s: float
    draining_s: float
    awake_s: float
    billed_s: float
    cost: float

    @classmethod
    def of(cls, totals: Totals, **more: Any) -> Self:  # noqa: ANN401 - fields of subclasses
        """Show sums."""
        return cls(
            starting_s=totals.starting_s,
            busy_s=totals.busy_s,
            idle_s=totals.idle_s,
            draining_s=totals.draining_s,
            awake_s=totals.awake_s,
            billed_s=totals.billed_s,
            cost=totals.cost,
            **more,
        )


class DeploymentUsage(TotalsModel):
    """What one deployment used."""

    name: str


class ReplicaUsage(TotalsModel):
    """What one replica used."""

    id: str
    deployment: str
    gpu: str


class UsageGroup(TotalsModel):
    """What one group used: by the key of the grouping, and what people call it."""

    key: str
    name: str


class UsageModel(Model):
    """What all of it used. `groups` are there where `by` was asked for."""

    totals: TotalsModel
    deployments: list[DeploymentUsage]
    replicas: list[ReplicaUsage]
    groups: list[UsageGroup] = Field(default_factory=list)


class NewBudget(BaseModel):
    """A monthly cap, in the currency of the price table."""

    monthly_cost: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class BudgetModel(Model):
    """A cap, and what its subject has cost since the month began (UTC)."""

    kind: BudgetKind
    id: str
    name: str
    monthly_cost: float
    spent: float
    is_spent: bool
    until: Time


class BudgetList(Model):
    """All caps."""

    budgets: list[BudgetModel]


class SpreadModel(Model):
    """The middle, and what nineteen in twenty stayed within."""

    p50: float
    p95: float


class EstimateModel(Model):
    """What one job would take on an awake replica, and cost; `basis` says how sure that is.

    Without a job to compare with (`nothing`) the figures are null. `wake_s` comes on top where no
    replica is awake, and is never billed.
    """

    basis: Basis
    samples: int
    load_ms: SpreadModel | None
    execute_ms: SpreadModel | None
    billed_ms: SpreadModel | None
    cost: SpreadModel | None
    price_per_hour: float
    wake_s: float | None
    gpu: str
