"""Budgets: set, list and lift the monthly caps of deployments and tokens."""

from fastapi import APIRouter

from comfyserve.domain.budget import Budget, BudgetKind
from comfyserve.domain.errors import NotFound
from comfyserve.domain.ledger import month_of
from comfyserve.gateway.auth import ADMIN, READ
from comfyserve.gateway.context import Gateway
from comfyserve.gateway.control.common import Caller, Parts
from comfyserve.gateway.cost_models import BudgetList, BudgetModel, NewBudget

router = APIRouter()


@router.get("/budgets", tags=["usage"])
async def list_budgets(gateway: Parts, caller: Caller) -> BudgetList:
    """All caps, with what is spent this month."""
    caller.require(READ)
    return BudgetList(budgets=[await _show(gateway, item) for item in gateway.budgets.all])


@router.put("/budgets/{kind}/{name}", tags=["usage"])
async def put_budget(
    kind: BudgetKind, name: str, wanted: NewBudget, gateway: Parts, caller: Caller
) -> BudgetModel:
    """Cap what a deployment (by name) or token (by id) may cost in a calendar month (UTC).

    Once it is spent new work gets a 402; what was accepted before still runs.
    """
    caller.require(ADMIN)
    budget = Budget(kind, await _subject(gateway, kind, name), wanted.monthly_cost)
    await gateway.budgets.put(budget)
    return await _show(gateway, budget)


@router.delete("/budgets/{kind}/{name}", tags=["usage"], status_code=204)
async def delete_budget(kind: BudgetKind, name: str, gateway: Parts, caller: Caller) -> None:
    """Lift a cap."""
    caller.require(ADMIN)
    if not await gateway.budgets.remove(kind, await _subject(gateway, kind, name)):
        raise NotFound(f"the {kind} '{name[:80]}' has no budget", code="budget_not_found")


async def _subject(gateway: Gateway, kind: BudgetKind, name: str) -> str:
    if kind is BudgetKind.DEPLOYMENT:
        return (await gateway.deployer.find(name)).id
    if name not in {item.id for item in await gateway.store.tokens.list()}:
        raise NotFound(
            f"there is no token '{name[:80]}'; give its id (`comfyserve token list`)",
            code="token_not_found",
        )
    return name


async def _show(gateway: Gateway, budget: Budget) -> BudgetModel:
    named = {item.id: item.name for item in gateway.runtime.deployments}
    if budget.kind is BudgetKind.TOKEN:
        named = {item.id: item.name for item in await gateway.store.tokens.list()}
    spent, now = await gateway.budgets.spent(budget), gateway.clock.now()
    return BudgetModel(
        kind=budget.kind,
        id=budget.subject_id,
        name=named.get(budget.subject_id, ""),
        monthly_cost=budget.monthly_cost,
        spent=spent,
        is_spent=spent >= budget.monthly_cost,
        until=month_of(now).until or now,
    )
