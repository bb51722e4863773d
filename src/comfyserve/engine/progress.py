"""How far each node of the running prompt is: what `progress_state` shows."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class NodeState(StrEnum):
    """What `progress_state` calls the states. Nodes that still wait are left out of it."""

    RUNNING = "running"
    FINISHED = "finished"


@dataclass(slots=True)
class NodeProgress:
    """How far one node is."""

    state: NodeState
    value: float
    maximum: float


class Progress:
    """The progress of the nodes of one prompt, in the order they began."""

    def __init__(self, prompt_id: str) -> None:
        self.prompt_id = prompt_id
        self._nodes: dict[str, NodeProgress] = {}

    def start(self, node_id: str) -> None:
        """The node begins."""
        self._nodes[node_id] = NodeProgress(NodeState.RUNNING, 0.0, 1.0)

    def update(self, node_id: str, value: float, maximum: float) -> None:
        """The node did `value` of `maximum` steps."""
        self._nodes[node_id] = NodeProgress(NodeState.RUNNING, value, maximum)

    def finish(self, node_id: str) -> None:
        """The node is done; one that never began was cached."""
        node = self._nodes.setdefault(node_id, NodeProgress(NodeState.FINISHED, 1, 1))
        node.state = NodeState.FINISHED
        node.value = node.maximum

    def to_wire(self) -> dict[str, Any]:
        """Return the data of a `progress_state` message: always all nodes."""
        return {
            "prompt_id": self.prompt_id,
            "nodes": {
                node_id: {
                    "value": node.value,
                    "max": node.maximum,
                    "state": node.state.value,
                    **describe_node(node_id, self.prompt_id),
                }
                for node_id, node in self._nodes.items()
            },
        }


def describe_node(node_id: str, prompt_id: str) -> dict[str, Any]:
    """Return the ids of a node; they differ only in expanded graphs, which there are none of here."""
    return {
        "node_id": node_id,
        "prompt_id": prompt_id,
        "display_node_id": node_id,
        "parent_node_id": None,
        "real_node_id": node_id,
    }
