"""Budgets: a cap on what a deployment or a token may cost in a calendar month (UTC)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from comfyserve.domain.errors import BudgetSpent
from comfyserve.domain.ledger import month_of


class BudgetKind(StrEnum):
    """Whose spending is capped. That of a token is what the jobs cost that were sent with it."""

    DEPLOYMENT = "deployment"
    TOKEN = "token"  # noqa: S105 - a word, not a secret


@dataclass(frozen=True, slots=True)
class Budget:
    """A monthly cap, in the currency of the price table. `subject_id` is a `dp_` or `tk_` id."""

    kind: BudgetKind
    subject_id: str
    monthly_cost: float


def check_budget(budget: Budget, spent: float, now: float, *, name: str) -> None:
    """Raise BudgetSpent if no new work may be taken. Work that was accepted before goes on."""
    if spent < budget.monthly_cost:
        return
    until = month_of(now).until or now
    day = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%d")
    raise BudgetSpent(
        f"the {budget.kind} '{name}' has spent {spent:.2f} of its {budget.monthly_cost:.2f} for this "
        f"month: no new work is taken until {day} (UTC), unless an operator raises it with "
        f"`comfyserve budget set`",
        until=until,
    )
