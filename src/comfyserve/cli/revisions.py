"""The revisions of a deployment: what the control API answers, and how it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.table import Table

from comfyserve.cli.render import columns
from comfyserve.cli.units import ago_text


@dataclass(frozen=True, slots=True)
class Revision:
    """One immutable snapshot of a deployment."""

    id: str
    number: int
    is_current: bool
    engine: str
    created_at: datetime
    engine_version: str = ""


@dataclass(frozen=True, slots=True)
class Revisions:
    """All revisions of a deployment, oldest first."""

    revisions: tuple[Revision, ...]


def revisions_table(revisions: Sequence[Revision], now: datetime) -> Table:
    """One line a revision, the newest first."""
    table = columns("REV", "CURRENT", "ENGINE", "CREATED", "ID", right=("REV",))
    for item in reversed(revisions):
        table.add_row(
            str(item.number),
            "yes" if item.is_current else "",
            f"{item.engine} {item.engine_version}".strip(),
            ago_text(item.created_at, now),
            item.id,
        )
    return table
