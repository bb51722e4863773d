"""Breaks JSON documents on purpose: finds spots in them and puts something else there."""

import copy
import json
import math
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Final, TypeAlias

Json: TypeAlias = Any
Spot: TypeAlias = tuple[Any, Any]
"""A list or dict, and an index or key of it."""

_MOST_SPOTS: Final = 20_000
_MOST_COPIES: Final = 400
ODD: Final[tuple[Json, ...]] = (
    *(None, True, False, 0, 1, -1, 2, 4, 64, 2**31, 2**53 + 1, 2**64, -(2**70), 10**400),
    *(0.0, -0.0, -0.5, 1.5, 1e308, 5e-324, math.inf, -math.inf, math.nan),
    *("", " ", "0", "-10", "1", "x" * 300, "Zoë 猫 🐈", "\u0000", "\ud800", "9" * 4500, "*", "a,b"),
    *("{a|b}", "{" * 60, "%date:yyyy%", "%A.b%", "embedding:x", "x.safetensors", "1:2", "<&\"'>"),
    *("PrimitiveNode", "Reroute", "workflow>a", "SetNode", "GetNode", "Note", "$name(a,b)", "#out"),
    *([], {}, [[]], [None], ["1", 0], [1, 2, 0, 3, 0, "*"], {"__value__": [1]}, {"a": {"a": {}}}),
)


class Breaker:
    """Makes faults; `donors` are documents whose parts may turn up in others, under the same key."""

    def __init__(self, donors: Sequence[Json] = ()) -> None:
        self._rng = Random(0)
        self._parts: dict[str, list[Json]] = {}
        for donor in donors:
            for holder, key in _spots(donor):
                if isinstance(key, str):
                    self._parts.setdefault(key, []).append(holder[key])
        self._kinds: tuple[tuple[Callable[[list[Spot]], None], int], ...] = (
            (self._odd, 6),
            (self._nudge, 4),
            (self._same_key, 6),
            (self._other_spot, 3),
            (self._donate, 6),
            (self._delete, 4),
            (self._repeat, 2),
            (self._swap, 3),
            (self._rename, 1),
            (self._nest, 1),
        )

    def broken(self, found: Json, rng: Random) -> bytes | None:
        """Return a copy with a handful of faults as text, `None` where it cannot be written."""
        self._rng = rng
        try:
            root = [copy.deepcopy(found)]
            self._break(root)
            return json.dumps(root[0]).encode()
        except (RecursionError, ValueError):  # nested too deep, a number too long
            return None

    def _break(self, root: list[Json]) -> None:
        for _ in range(self._rng.choices((1, 2, 3, 6, 12), (8, 5, 3, 2, 1))[0]):
            spots = list(_spots(root))
            kinds, weights = zip(*self._kinds, strict=True)
            self._rng.choices(kinds, weights)[0](spots)

    def _spot(self, spots: list[Spot]) -> Spot:
        return self._rng.choice(spots)

    def _odd(self, spots: list[Spot]) -> None:
        holder, key = self._spot(spots)
        holder[key] = copy.deepcopy(self._rng.choice(ODD))

    def _nudge(self, spots: list[Spot]) -> None:
        numbers = [spot for spot in spots if type(spot[0][spot[1]]) is int]
        if numbers:
            holder, key = self._spot(numbers)
            holder[key] += self._rng.choice((-1, 1, 1, 2, 100))

    def _same_key(self, spots: list[Spot]) -> None:
        """Take the value that another place of the same name has: ids that meet, links that cross."""
        holder, key = self._spot(spots)
        others = [each[0][each[1]] for each in spots if each[1] == key]
        holder[key] = copy.deepcopy(self._rng.choice(others))

    def _other_spot(self, spots: list[Spot]) -> None:
        holder, key = self._spot(spots)
        other, place = self._spot(spots)
        holder[key] = copy.deepcopy(other[place])

    def _donate(self, spots: list[Spot]) -> None:
        named = [spot for spot in spots if spot[1] in self._parts]
        if named:
            holder, key = self._spot(named)
            holder[key] = copy.deepcopy(self._rng.choice(self._parts[key]))

    def _delete(self, spots: list[Spot]) -> None:
        holder, key = self._spot(spots)
        if holder is not spots[0][0]:
            del holder[key]

    def _repeat(self, spots: list[Spot]) -> None:
        lists = [spot[0] for spot in spots[1:] if isinstance(spot[0], list)]
        if lists:
            chosen = self._rng.choice(lists)
            times = self._rng.choice((1, 1, 2, 10, _MOST_COPIES // (len(chosen) + 1)))
            chosen.extend(copy.deepcopy(self._rng.choice(chosen)) for _ in range(times))

    def _swap(self, spots: list[Spot]) -> None:
        holder, key = self._spot(spots)
        place = self._rng.choice(list(_keys(holder)))
        holder[key], holder[place] = holder[place], holder[key]

    def _rename(self, spots: list[Spot]) -> None:
        named = [spot for spot in spots if isinstance(spot[0], dict)]
        if named:
            holder, key = self._spot(named)
            other = self._spot(named)[1]
            holder[other] = holder.pop(key)

    def _nest(self, spots: list[Spot]) -> None:
        holder, key = self._spot(spots)
        wrap = self._rng.choice((lambda it: [it], lambda it: {str(key): it}))
        for _ in range(self._rng.choice((1, 1, 3, 70, 300))):
            holder[key] = wrap(holder[key])


def _keys(holder: Json) -> Iterator[Json]:
    return iter(range(len(holder)) if isinstance(holder, list) else holder)


def _spots(document: Json) -> Iterator[Spot]:
    """Go through the spots of a document, level by level."""
    level, count = [document], 0
    while level:
        below = []
        for holder in level:
            if isinstance(holder, list | dict):
                for key in _keys(holder):
                    if count == _MOST_SPOTS:
                        return
                    count += 1
                    yield holder, key
                    below.append(holder[key])
        level = below


def document(text: bytes) -> Json:
    """Return the list or object that a text is, `None` for all else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) and found else None
