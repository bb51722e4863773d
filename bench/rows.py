"""One row of the table, and the arithmetic that rows share."""

import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.processes import EngineUnderTest


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: ours, theirs (None: there is nothing to compare with), and the goal in words."""

    what: str
    ours: float
    theirs: float | None
    unit: str
    goal: str

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return self.ours / self.theirs if self.theirs else None


Measure = Callable[[EngineUnderTest], Awaitable[list[Row]]]


def latency(
    what: str, ours: Sequence[float], theirs: Sequence[float], percent: int, goal: str
) -> Row:
    """A percentile of two lists of seconds, shown in milliseconds."""
    return Row(what, percentile(ours, percent) * 1e3, percentile(theirs, percent) * 1e3, "ms", goal)


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which `percent` of the values are."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
