"""Place the boxes of a directed graph in columns, every connection from left to right."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

_SWEEPS: Final = 4


def columns(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Return the nodes in columns: each behind all that it depends on, with few crossings.

    Connections that close a circle are ignored. Takes time in proportion to the graph.
    """
    before: dict[str, list[str]] = {node: [] for node in nodes}
    after: dict[str, list[str]] = {node: [] for node in nodes}
    for origin, target in dict.fromkeys(edges):
        if origin in after and target in before and origin != target:
            after[origin].append(target)
            before[target].append(origin)
    level = _levels(nodes, before, after)
    found: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for node in nodes:
        found[level[node]].append(node)
    for _ in range(_SWEEPS):
        _straighten(found, before)
        _straighten(found[::-1], after)
    return found


def _levels(
    nodes: Sequence[str], before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """Return for each node the length of the longest way to it; circles are cut where they begin."""
    waiting = {node: len(before[node]) for node in nodes}
    level = dict.fromkeys(nodes, 0)
    ready = deque(node for node in nodes if not waiting[node])
    done: set[str] = set()
    rest = iter(nodes)
    while len(done) < len(level):
        if not ready:
            ready.append(next(node for node in rest if node not in done))
        node = ready.popleft()
        if node in done:
            continue
        done.add(node)
        for target in after[node]:
            if target in done:
                continue
            level[target] = max(level[target], level[node] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return level


def _straighten(found: Sequence[list[str]], towards: Mapping[str, Sequence[str]]) -> None:
    """Sort each column by the middle of what its boxes are connected to on one side."""
    place: dict[str, float] = {}
    for column in found:
        middles = {}
        for index, node in enumerate(column):
            sides = [place[each] for each in towards[node] if each in place]
            middles[node] = sum(sides) / len(sides) if sides else float(index)
        column.sort(key=middles.__getitem__)
        place.update({node: float(index) for index, node in enumerate(column)})
