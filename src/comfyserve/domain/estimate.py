"""What a workflow is going to take and cost, read off jobs like it that have run."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from comfyserve.domain.simulation import quantile
from comfyserve.domain.usage import Receipt


class Basis(StrEnum):
    """Which past jobs an estimate rests on, the most alike first."""

    SAME_SETTINGS = "same_settings"
    SAME_GRAPH = "same_graph"
    ANY_JOB = "any_job"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Sample:
    """A job that succeeded, and how like the estimated workflow it is."""

    receipt: Receipt
    has_same_settings: bool = False
    has_same_graph: bool = False


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of what was seen, and what nineteen in twenty stayed within."""

    p50: float
    p95: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Read it off at least one value."""
        ordered = sorted(values)
        return cls(quantile(ordered, 0.5), quantile(ordered, 0.95))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one job would take on a replica that is awake (milliseconds), and its cost.

    `wake_s` comes on top where none is awake; it is never billed. Without samples there are no
    figures.
    """

    basis: Basis
    samples: int
    load_ms: Spread | None = None
    execute_ms: Spread | None = None
    billed_ms: Spread | None = None
    cost: Spread | None = None
    price_per_hour: float = 0.0
    wake_s: float | None = None


def estimate(samples: Sequence[Sample], *, price_per_hour: float, wake_s: float | None) -> Estimate:
    """Rest on the most alike jobs that there are; cost is at the present price."""
    basis, chosen = _choose(samples)
    if not chosen:
        return Estimate(Basis.NOTHING, 0, price_per_hour=price_per_hour, wake_s=wake_s)
    billed = [float(receipt.billed_ms) for receipt in chosen]
    return Estimate(
        basis=basis,
        samples=len(chosen),
        load_ms=Spread.of([float(receipt.load_ms) for receipt in chosen]),
        execute_ms=Spread.of([float(receipt.execute_ms) for receipt in chosen]),
        billed_ms=Spread.of(billed),
        cost=Spread.of([ms / 3_600_000.0 * price_per_hour for ms in billed]),
        price_per_hour=price_per_hour,
        wake_s=wake_s,
    )


def _choose(samples: Sequence[Sample]) -> tuple[Basis, list[Receipt]]:
    alike = {
        Basis.SAME_SETTINGS: [item.receipt for item in samples if item.has_same_settings],
        Basis.SAME_GRAPH: [item.receipt for item in samples if item.has_same_graph],
        Basis.ANY_JOB: [item.receipt for item in samples],
    }
    return next(((basis, found) for basis, found in alike.items() if found), (Basis.NOTHING, []))
