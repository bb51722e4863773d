"""How far a running job is: what the engine says, as one number and the node that it is at."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MOST_STEPS = 10_000
# A tuple: what is compared with it may be anything, also what cannot be hashed.
_DONE = ("finished", "cached")


@dataclass(frozen=True, slots=True)
class Progress:
    """A whole snapshot. `value` is 0..1, weighted by nodes and by the steps of samplers."""

    value: float
    nodes_done: int
    nodes_total: int
    current_node: str | None = None
    current_node_class: str | None = None
    step: int | None = None
    steps: int | None = None


class ProgressTracker:
    """Counts what an engine reports about one prompt. Never raises on what an engine says.

    Only the nodes that the outputs need are counted; those that a node makes while it runs
    (`5.0.0.3`) count as the node that made them. The value never goes back.
    """

    def __init__(self, prompt: Mapping[str, Any], outputs: tuple[str, ...]) -> None:
        self._classes = {
            node_id: _class_of(prompt[node_id]) for node_id in _needed(prompt, outputs)
        }
        self._weights = {node_id: _weight(prompt[node_id]) for node_id in self._classes}
        self._done: set[str] = set()
        self._fractions: dict[str, float] = {}
        self._current: str | None = None
        self._step: int | None = None
        self._steps: int | None = None
        self._value = 0.0

    def hear(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take one message of the engine, in ComfyUI's shape."""
        match kind:
            case "execution_cached":
                nodes = data.get("nodes")
                for node_id in nodes if isinstance(nodes, list) else ():
                    self._finish(self._counted(node_id))
            case "executing":
                self._move_to(self._counted(data.get("node")))
            case "executed":
                self._finish(self._counted(data.get("display_node") or data.get("node")))
            case "progress":
                node_id = self._counted(data.get("node")) or self._current
                self._advance(node_id, data.get("value"), data.get("max"))
            case "progress_state":
                self._take_states(data.get("nodes"))
            case _:
                return

    def snapshot(self) -> Progress:
        """Where it is now."""
        total = sum(self._weights.values())
        done = sum(self._weights[node_id] * self._fraction(node_id) for node_id in self._weights)
        self._value = max(self._value, min(1.0, done / total)) if total else self._value
        current = self._current
        return Progress(
            value=round(self._value, 4),
            nodes_done=len(self._done),
            nodes_total=len(self._weights),
            current_node=current,
            current_node_class=None if current is None else self._classes[current],
            step=self._step,
            steps=self._steps,
        )

    def _fraction(self, node_id: str) -> float:
        return 1.0 if node_id in self._done else self._fractions.get(node_id, 0.0)

    def _counted(self, node_id: object) -> str | None:
        """The node of the prompt that an id stands for; None for one that is not counted."""
        if not isinstance(node_id, str):
            return None
        while node_id not in self._weights:
            node_id, dot, _ = node_id.rpartition(".")
            if not dot:
                return None
        return node_id

    def _finish(self, node_id: str | None) -> None:
        if node_id is not None:
            self._done.add(node_id)

    def _move_to(self, node_id: str | None) -> None:
        """Nodes run one after the other: the one before is done."""
        if node_id != self._current:
            self._finish(self._current)
            self._step = self._steps = None
        self._current = node_id

    def _advance(self, node_id: str | None, value: object, most: object) -> None:
        if node_id is None or not isinstance(value, int | float):
            return
        if not isinstance(most, int | float) or not 0 <= value <= most or not 0 < most < math.inf:
            return
        self._fractions[node_id] = value / most
        if node_id == self._current and most > 1:
            self._step, self._steps = int(value), int(most)

    def _take_states(self, nodes: object) -> None:
        for node_id, state in nodes.items() if isinstance(nodes, Mapping) else ():
            counted = self._counted(node_id)
            if counted is None or not isinstance(state, Mapping):
                continue
            if state.get("state") in _DONE and counted == node_id:
                self._finish(counted)
            elif state.get("state") == "running":
                self._move_to(counted)
                self._advance(counted, state.get("value"), state.get("max"))


def _needed(prompt: Mapping[str, Any], outputs: tuple[str, ...]) -> Iterator[str]:
    """The outputs and everything that they are linked to."""
    ahead, seen = list(outputs), set(outputs)
    while ahead:
        node_id = ahead.pop()
        if node_id not in prompt:
            continue
        yield node_id
        for value in _inputs(prompt[node_id]).values():
            if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
                linked = value[0]
                if linked not in seen:
                    seen.add(linked)
                    ahead.append(linked)


def _inputs(node: object) -> Mapping[str, Any]:
    inputs = node.get("inputs") if isinstance(node, Mapping) else None
    return inputs if isinstance(inputs, Mapping) else {}


def _class_of(node: object) -> str | None:
    name = node.get("class_type") if isinstance(node, Mapping) else None
    return name if isinstance(name, str) else None


def _weight(node: object) -> float:
    """A node counts one, and a sampler one more for each step."""
    steps = _inputs(node).get("steps")
    is_counted = isinstance(steps, int) and not isinstance(steps, bool) and steps > 0
    return 1.0 + (min(steps, _MOST_STEPS) if is_counted and isinstance(steps, int) else 0)
