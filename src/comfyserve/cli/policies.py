"""The policies that `simulate` compares: our own, and a table of hosted platforms."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.simulation import Policy
from comfyserve.domain.spec import Scaling

_NUMBERS = {
    "price_per_hour": None,
    "idle_timeout_s": 60.0,
    "wake_s": 0.0,
    "max_replicas": 1.0,
    "cost_per_job": 0.0,
}
"""Fields of a platform with their defaults; None: it must be given."""
_KNOWN = {*_NUMBERS, "bills_wake", "as_of", "source"}


@dataclass(frozen=True, slots=True)
class Own:
    """What our own policies have in common."""

    price_per_hour: float
    wake_s: float
    max_replicas: int


def own_policies(own: Own, idle_timeouts_s: Sequence[float]) -> list[Policy]:
    """Always on, and asleep after each of these times without work."""
    on = Scaling(min_replicas=own.max_replicas, max_replicas=own.max_replicas)
    return [
        Policy("always on", on, own.price_per_hour, own.wake_s),
        *(
            Policy(
                f"asleep after {idle_s:g} s",
                Scaling(max_replicas=own.max_replicas, idle_timeout_s=idle_s),
                own.price_per_hour,
                own.wake_s,
            )
            for idle_s in idle_timeouts_s
        ),
    ]


def read_platforms(text: str, name: str) -> list[Policy]:
    """Read a TOML table `[platforms."NAME"]` for each. Raises InvalidInput naming what is wrong."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{name} is not TOML: {error}") from error
    platforms = document.get("platforms")
    if not isinstance(platforms, dict) or not platforms:
        raise InvalidInput(f'{name} needs a table [platforms."NAME"] for each platform')
    return [_platform(key, fields, name) for key, fields in platforms.items()]


def _platform(key: str, fields: object, file: str) -> Policy:
    where = f"{file}, platform '{key}'"
    if not isinstance(fields, dict):
        raise InvalidInput(f"{where} must be a table")
    if unknown := sorted(set(fields) - _KNOWN):
        raise InvalidInput(
            f"{where}: there is no field '{unknown[0]}'; known: {', '.join(sorted(_KNOWN))}"
        )
    numbers = {name: _number(fields, name, where) for name in _NUMBERS}
    bills_wake = fields.get("bills_wake", True)
    if not isinstance(bills_wake, bool):
        raise InvalidInput(f"{where}: bills_wake must be true or false")
    as_of = fields.get("as_of")
    return Policy(
        name=f"{key} ({as_of})" if as_of else key,
        scaling=Scaling(
            max_replicas=max(1, int(numbers["max_replicas"])),
            idle_timeout_s=numbers["idle_timeout_s"],
        ),
        price_per_hour=numbers["price_per_hour"],
        wake_s=numbers["wake_s"],
        bills_wake=bills_wake,
        cost_per_job=numbers["cost_per_job"],
    )


def _number(fields: Mapping[str, Any], name: str, where: str) -> float:
    value = fields.get(name, _NUMBERS[name])
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InvalidInput(f"{where}: {name} must be a number that is not negative")
    return float(value)
