"""From the prompt back to what a person sees: title, class and place of a node id."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from comfyserve.workflow.editor import Counters
from comfyserve.workflow.flavours import RULES, Flavour
from comfyserve.workflow.graph import SavedDefinition, SavedNode, UiWorkflow
from comfyserve.workflow.loading import Renumbering, renumber


@dataclass(frozen=True, slots=True)
class Label:
    """What is known about one node id."""

    node_id: str
    title: str
    class_type: str
    position: tuple[float, float] | None
    """Left upper corner in the editor, in its pixels; inside a subgraph counted in that."""
    size: tuple[float, float] | None
    inside: tuple[str, ...]
    """Titles of the subgraphs that the node is inside of, the outermost first."""

    @property
    def text(self) -> str:
        """Name the node in one line: `Outer / KSampler (3:7)`."""
        return f"{' / '.join((*self.inside, self.title))} ({self.node_id})"


class Labels:
    """Labels of the nodes of one workflow, made when they are asked for."""

    def __init__(
        self, prompt: Mapping[str, Any], workflow: UiWorkflow | None, flavour: Flavour
    ) -> None:
        """`workflow`: the UI workflow that the prompt was made of, if it was."""
        self._prompt = prompt
        self._root = {} if workflow is None else {node.id: node for node in workflow.graph.nodes}
        self._definitions: dict[str, SavedDefinition] = {}
        self._inner: dict[str, Mapping[str, SavedNode]] = {}
        self._renumbering: Renumbering | None = None
        if workflow is not None:
            self._definitions = {definition.id: definition for definition in workflow.definitions}
            self._renumbering = renumber(workflow, Counters(workflow.last_node_id), RULES[flavour])

    def get(self, node_id: str) -> Label | None:
        """Return what is known of a node of the prompt, or of a subgraph instance around one."""
        path = self._path(node_id)
        saved = path[-1] if path else None
        node = self._prompt.get(node_id)
        entry = node if isinstance(node, Mapping) else {}
        if saved is None and not entry:
            return None
        class_type = entry.get("class_type")
        title = self._title(entry, saved)
        return Label(
            node_id=node_id,
            title=title,
            class_type=class_type if isinstance(class_type, str) else saved.type if saved else "",
            position=saved.position if saved else None,
            size=saved.size if saved else None,
            inside=tuple(self._title({}, each) for each in path[:-1]),
        )

    def __iter__(self) -> Iterator[Label]:
        """Go through the labels of all nodes of the prompt."""
        for node_id in self._prompt:
            label = self.get(node_id)
            if label is not None:
                yield label

    def _title(self, entry: Mapping[str, Any], saved: SavedNode | None) -> str:
        meta = entry.get("_meta")
        title = meta.get("title") if isinstance(meta, Mapping) else None
        if isinstance(title, str) and title:
            return title
        if saved is not None and saved.title:
            return saved.title
        if saved is not None and saved.type in self._definitions:
            return self._definitions[saved.type].name
        class_type = entry.get("class_type")
        return class_type if isinstance(class_type, str) else saved.type if saved else ""

    def _path(self, node_id: str) -> list[SavedNode]:
        """Follow a flattened id through the subgraphs; nothing where it leads nowhere."""
        nodes: Mapping[str, SavedNode] = self._root
        found: list[SavedNode] = []
        for part in node_id.split(":"):
            node = nodes.get(part)
            if node is None:
                return []
            found.append(node)
            nodes = self._inside(node.type)
        return found

    def _inside(self, node_type: str) -> Mapping[str, SavedNode]:
        """Return the nodes of a definition by the ids that they have in the prompt."""
        definition = self._definitions.get(node_type)
        if definition is None:
            return {}
        if node_type not in self._inner:
            nodes = definition.graph.nodes
            ids = self._renumbering.ids.get(node_type) if self._renumbering else None
            names = ids if ids is not None and len(ids) == len(nodes) else [n.id for n in nodes]
            self._inner[node_type] = dict(zip(names, nodes, strict=True))
        return self._inner[node_type]
