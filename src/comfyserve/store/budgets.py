"""Budgets on record: one cap for each deployment or token that has one."""

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, insert, select

from comfyserve.domain.budget import Budget, BudgetKind
from comfyserve.store.engine import Database
from comfyserve.store.tables import budget

_AT = (budget.c.kind == bindparam("of_kind"), budget.c.subject_id == bindparam("of"))
_ALL = select(budget.c.kind, budget.c.subject_id, budget.c.monthly_cost).order_by(
    budget.c.kind, budget.c.subject_id
)
_DELETE = delete(budget).where(*_AT)
_INSERT = insert(budget)


class BudgetStore:
    """Caps by what they are for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> Sequence[Budget]:
        """All budgets."""
        return await self._database.read(
            lambda connection: [
                Budget(BudgetKind(row.kind), row.subject_id, row.monthly_cost)
                for row in connection.execute(_ALL)
            ]
        )

    async def put(self, wanted: Budget) -> None:
        """Set a budget, in place of the one there was."""
        at = {"of_kind": wanted.kind.value, "of": wanted.subject_id}
        row = {
            "kind": wanted.kind.value,
            "subject_id": wanted.subject_id,
            "monthly_cost": wanted.monthly_cost,
        }
        await self._database.write(
            lambda connection: (connection.execute(_DELETE, at), connection.execute(_INSERT, row))
        )

    async def delete(self, kind: BudgetKind, subject_id: str) -> bool:
        """Remove a budget; whether there was one."""
        at = {"of_kind": kind.value, "of": subject_id}
        count = await self._database.write(
            lambda connection: connection.execute(_DELETE, at).rowcount
        )
        return count > 0
