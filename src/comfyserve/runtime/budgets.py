"""Budgets at work: what is spent this month, and whether new work may be taken."""

import asyncio

from comfyserve.clock import Clock
from comfyserve.domain.budget import Budget, BudgetKind, check_budget
from comfyserve.domain.ledger import month_of
from comfyserve.store.budgets import BudgetStore
from comfyserve.store.usage import Spent, UsageStore

# Spending is added up at most so often: a cap may be overrun by what a replica costs meanwhile.
_FRESH_S = 2.0
_NOTHING = Spent({}, {})


class Budgets:
    """All caps, in memory; without any, a check costs one look at an empty table."""

    def __init__(self, budgets: BudgetStore, usage: UsageStore, clock: Clock) -> None:
        self._store = budgets
        self._usage = usage
        self._clock = clock
        self._caps: dict[tuple[BudgetKind, str], Budget] = {}
        self._spent = _NOTHING
        self._spent_at = float("-inf")
        self._adding = asyncio.Lock()

    async def start(self) -> None:
        """Read the caps."""
        self._caps = {(item.kind, item.subject_id): item for item in await self._store.list()}

    @property
    def all(self) -> tuple[Budget, ...]:
        """Every cap."""
        return tuple(self._caps.values())

    async def put(self, budget: Budget) -> None:
        """Set a cap; it holds from now on."""
        await self._store.put(budget)
        self._caps[budget.kind, budget.subject_id] = budget

    async def remove(self, kind: BudgetKind, subject_id: str) -> bool:
        """Lift a cap; whether there was one."""
        self._caps.pop((kind, subject_id), None)
        return await self._store.delete(kind, subject_id)

    async def check(self, deployment_id: str, deployment_name: str, principal: str) -> None:
        """Raise BudgetSpent if the deployment or the caller has used up its month."""
        if not self._caps:
            return
        for kind, subject_id, name in (
            (BudgetKind.DEPLOYMENT, deployment_id, deployment_name),
            (BudgetKind.TOKEN, principal, principal),
        ):
            cap = self._caps.get((kind, subject_id))
            if cap is not None:
                check_budget(cap, await self.spent(cap), self._clock.now(), name=name)

    async def spent(self, budget: Budget) -> float:
        """What its subject has cost this month."""
        spent = await self._this_month()
        if budget.kind is BudgetKind.DEPLOYMENT:
            return spent.deployments.get(budget.subject_id, 0.0)
        return spent.principals.get(budget.subject_id, 0.0)

    async def _this_month(self) -> Spent:
        async with self._adding:
            if self._clock.monotonic() - self._spent_at >= _FRESH_S:
                now = self._clock.now()
                self._spent = await self._usage.spent(month_of(now).since or 0.0, now)
                self._spent_at = self._clock.monotonic()
        return self._spent
