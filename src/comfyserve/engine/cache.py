"""Results of nodes, kept to be used again: the signatures they go by, and how long they are kept.

A signature says everything that a result depends on: the class, what its change check says, its values,
and the same of all its ancestors, which are numbered in the order they are reached. Node ids are no part
of it, so a renumbered workflow finds its results again (measured on ComfyUI 0.33.0).
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from comfyserve.engine.options import CacheMode

MEMORY_BUDGET_BYTES = 512 * 1024 * 1024
"""What `CacheMode.MEMORY` keeps beyond the latest prompt."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a node gave."""

    outputs: tuple[list[Any], ...]
    """One list per output; most hold one value."""
    ui: Mapping[str, Any] | None
    """What it reported to the client, if anything."""

    @property
    def size_bytes(self) -> int:
        """How much memory the arrays take."""
        return sum(getattr(value, "nbytes", 0) for values in self.outputs for value in values)


class Unrepeatable:
    """Equal to nothing else: stands in a signature for what cannot be compared."""

    __slots__ = ()


def is_link(value: object) -> bool:
    """Whether an input is taken from another node: `["4", 0]`."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int | float)
    )


def inputs_of(prompt: Mapping[str, Any], node_id: str) -> Mapping[str, Any]:
    """Return the inputs of a node; one that no output needs may lack them altogether."""
    inputs: Mapping[str, Any] = prompt[node_id].get("inputs", {})
    return inputs


def signatures(
    prompt: Mapping[str, Any], change_of: Callable[[str], Hashable]
) -> dict[str, Hashable]:
    """Return the signature of each node of a prompt; `change_of` gives what its change check says."""
    return {node_id: _signature(prompt, node_id, change_of) for node_id in prompt}


def _signature(
    prompt: Mapping[str, Any], node_id: str, change_of: Callable[[str], Hashable]
) -> Hashable:
    order: dict[str, int] = {}
    _number_ancestors(prompt, node_id, order)
    return tuple(_own_signature(prompt, each, order, change_of) for each in (node_id, *order))


def _number_ancestors(prompt: Mapping[str, Any], node_id: str, order: dict[str, int]) -> None:
    stack = [node_id]
    while stack:
        inputs = inputs_of(prompt, stack.pop())
        links = [inputs[name][0] for name in sorted(inputs) if is_link(inputs[name])]
        fresh = [link for link in dict.fromkeys(links) if link in prompt and link not in order]
        for link in fresh:
            order[link] = len(order)
        stack += reversed(fresh)


def _own_signature(
    prompt: Mapping[str, Any],
    node_id: str,
    order: Mapping[str, int],
    change_of: Callable[[str], Hashable],
) -> Hashable:
    inputs = inputs_of(prompt, node_id)
    values = tuple(
        (name, ("ancestor", order.get(inputs[name][0]), inputs[name][1]))
        if is_link(inputs[name])
        else (name, _hashable(inputs[name]))
        for name in sorted(inputs)
    )
    return (prompt[node_id]["class_type"], change_of(node_id), values)


def _hashable(value: object) -> Hashable:
    match value:
        case None | str() | int() | float():
            return value
        case Mapping():
            return frozenset((key, _hashable(item)) for key, item in value.items())
        case list() | tuple():
            return tuple(_hashable(item) for item in value)
        case _:
            return Unrepeatable()


class ResultCache:
    """Results by signature. Used by the worker thread alone."""

    def __init__(self, mode: CacheMode, max_entries: int = 0) -> None:
        self._mode = mode
        self._max_entries = max_entries
        self._results: dict[Hashable, Result] = {}

    def get(self, signature: Hashable) -> Result | None:
        """Return a kept result and count it as used just now."""
        result = self._results.pop(signature, None)
        if result is not None:
            self._results[signature] = result
        return result

    def put(self, signature: Hashable, result: Result) -> None:
        """Keep a result, for this prompt at least (unless nothing is kept)."""
        if self._mode is not CacheMode.NONE:
            self._results[signature] = result

    def trim(self, in_use: Iterable[Hashable]) -> None:
        """Forget what the mode does not allow to keep beside what the coming prompt can use."""
        wanted = set(in_use)
        spare = [signature for signature in self._results if signature not in wanted]
        for signature in spare[: self._excess(spare)]:
            del self._results[signature]

    def _excess(self, spare: list[Hashable]) -> int:
        """Return how many of the spare ones, oldest first, must go."""
        match self._mode:
            case CacheMode.NONE | CacheMode.CLASSIC:
                return len(spare)
            case CacheMode.LRU:
                return max(0, len(self._results) - self._max_entries)
            case CacheMode.MEMORY:
                too_much = sum(self._results[each].size_bytes for each in spare)
                too_much -= MEMORY_BUDGET_BYTES
                excess = 0
                while too_much > 0:
                    too_much -= self._results[spare[excess]].size_bytes
                    excess += 1
                return excess

    def clear(self) -> None:
        """Forget everything."""
        self._results.clear()
