"""Make one node of the editor out of a saved one: slots by name, widget values by position."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from comfyserve.workflow.bounds import Budget
from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.editor import Definition, Graph, Kind, Node, Output, Role, Slot, Widget
from comfyserve.workflow.flavours import FrontendRules
from comfyserve.workflow.graph import SavedNode
from comfyserve.workflow.live_inputs import build_inputs, choose, grow, set_option
from comfyserve.workflow.specs import NodeClass
from comfyserve.workflow.uploads import cleaned_upload, initial_upload, is_upload
from comfyserve.workflow.values import UNSET
from comfyserve.workflow.widget_plans import CONTROL_NAME
from comfyserve.workflow.widgets import ClassShape, class_shape, is_forced, trailing_plans

_RENAMED: Final = {
    "T2IAdapterLoader": "ControlNetLoader",
    "ConditioningAverage ": "ConditioningAverage",
    "SDV_img2vid_Conditioning": "SVD_img2vid_Conditioning",
}
_FRONTEND_ONLY: Final[Mapping[str, Role]] = {
    "Reroute": Role.REROUTE,
    "PrimitiveNode": Role.PRIMITIVE,
    "Note": Role.NOTE,
    "MarkdownNote": Role.NOTE,
}
"""The frontend's own node types; they hide server classes of the same name."""
_PACK_ONLY: Final[Mapping[str, Role]] = {
    "SetNode": Role.SETTER,
    "GetNode": Role.GETTER,
    "easy setNode": Role.SETTER,
    "easy getNode": Role.GETTER,
    "Reroute (rgthree)": Role.REROUTE,
    **dict.fromkeys(
        (
            *("Label (rgthree)", "Bookmark (rgthree)", "Fast Muter (rgthree)"),
            *("Fast Bypasser (rgthree)", "Fast Groups Muter (rgthree)"),
            *("Fast Groups Bypasser (rgthree)", "Fast Actions Button (rgthree)"),
            *("Mute / Bypass Relay (rgthree)", "Mute / Bypass Repeater (rgthree)"),
            *("Node Collector (rgthree)", "Random Unmuter (rgthree)"),
        ),
        Role.NOTE,
    ),
}
"""Node types that well-known packs have in the frontend only; a server class of the name goes first."""
_CONTROLS: Final = frozenset({"fixed", "increment", "decrement", "randomize", True, False})
_SEEDS: Final = frozenset({"seed", "noise_seed"})
_MOST_GUESSED: Final = 1000


@dataclass(frozen=True, slots=True)
class NodeMaker:
    """Makes nodes by the catalog and the rules of a flavour."""

    catalog: NodeCatalog
    rules: FrontendRules
    definitions: Mapping[str, Definition]
    group_types: Mapping[str, NodeClass]
    """Legacy group nodes as classes of their own, by node type."""
    budget: Budget

    def make(self, saved: SavedNode, node_id: str) -> Node:
        """Make the bare node, as the editor does for all nodes before it fills in any."""
        node_type = saved.type
        if self.rules.renames_old_types:
            node_type = _RENAMED.get(node_type, node_type)
        role, node_class = self._role(node_type)
        node = Node(
            id=node_id,
            role=role,
            type=node_type,
            title=saved.title or (node_class.display_name if node_class else node_type),
            mode=saved.mode,
            inputs=[],
            outputs=[],
            widgets=[],
            properties=saved.properties,
            saved=saved,
            definition=self.definitions.get(node_type) if role is Role.INSTANCE else None,
            node_class=node_class,
        )
        if node_class is not None:
            self._build(node, self.shape(node_class))
            if self.rules.cleans_upload_values:
                for widget in filter(is_upload, node.widgets):
                    widget.value = initial_upload(widget)
            node.outputs = [
                Output(name, _output_type(kind))
                for name, kind in zip(
                    node_class.output_names, node_class.output_types, strict=False
                )
            ]
        return node

    def _role(self, node_type: str) -> tuple[Role, NodeClass | None]:
        if node_type in self.definitions:
            return Role.INSTANCE, None
        if node_type in _FRONTEND_ONLY:
            return _FRONTEND_ONLY[node_type], None
        if node_type in self.group_types:
            return Role.GROUP, self.group_types[node_type]
        node_class = self.catalog.get(node_type)
        if node_class is not None:
            return Role.CLASS, node_class
        return _PACK_ONLY.get(node_type, Role.UNKNOWN), None

    def shape(self, node_class: NodeClass) -> ClassShape:
        """Return what nodes of the class look like."""
        entry = self.catalog.entries.get(node_class.name)
        is_ordered = entry is not None and bool(entry.get("input_order"))
        return class_shape(node_class, self.rules, is_ordered=is_ordered)

    def _build(self, node: Node, shape: ClassShape) -> None:
        if not shape.is_dynamic:
            node.inputs = shape.slots()
            node.widgets = [plan.build() for plan in shape.widgets]
            self.budget.make(len(node.inputs) + len(node.widgets))
            return
        node.is_regular = False
        build_inputs(node, shape.specs, self.rules)
        if node.node_class is not None:
            node.widgets += [p.build() for p in trailing_plans(node.node_class, self.rules)]
        self.budget.make(len(node.inputs) + len(node.widgets))

    def fill(self, node: Node, graph: Graph) -> None:
        """Take over slots and values from the file; instances are filled by `subgraphs`."""
        saved = node.saved
        if node.node_class is None:
            _take_saved_slots(node)
            if node.role is Role.UNKNOWN:
                node.widgets = list(_guessed_widgets(saved))
            return
        _connect_by_name(node)
        _take_outputs(node)
        if node.growing:
            grow(node, graph, self.rules)
        self._take_values(node, graph)

    def _take_values(self, node: Node, graph: Graph) -> None:
        values = node.saved.values
        if values is None:
            return
        if isinstance(values, Mapping):
            self._take_named(node, graph, values)
            return
        values = self._without_dummies(node, values)
        at = index = 0
        while index < len(node.widgets) and at < len(values):
            widget = node.widgets[index]
            index += 1
            if widget.is_saved:
                self.assign(node, graph, widget, values[at])
                at += 1

    def _take_named(self, node: Node, graph: Graph, values: Mapping[str, Any]) -> None:
        """Take values by name.

        Only custom packs write an object, and their own code reads it back; the frontend on its own
        loses all values of such a node, and so it is for classes that come with ComfyUI.
        """
        is_custom = node.node_class is not None and node.node_class.is_custom
        index = 0
        while index < len(node.widgets):
            widget = node.widgets[index]
            index += 1
            if widget.is_saved and not is_custom:
                widget.value = UNSET if self.rules.loses_named_values else widget.value
            elif widget.is_saved and widget.name in values:
                self.assign(node, graph, widget, values[widget.name])

    def assign(self, node: Node, graph: Graph, widget: Widget, value: object) -> None:
        """Set a widget and let inputs that depend on it come and go."""
        if widget.kind is Kind.DYNAMIC_COMBO:
            choose(node, graph, widget, value, self.rules)
        elif widget.kind is Kind.OPTION:
            set_option(node, widget, value)
        elif self.rules.cleans_upload_values and is_upload(widget):
            widget.value = cleaned_upload(widget, value)
        else:
            widget.set(value, multiline_is_text=self.rules.multiline_is_text)

    def _without_dummies(self, node: Node, values: Sequence[Any]) -> Sequence[Any]:
        """Drop the values that files from before 1.16 hold for inputs that have no widget any more.

        They are recognised by their number alone, as the frontend does it.
        """
        if node.node_class is None or not self.shape(node.node_class).has_forced:
            return values
        names = {widget.name for widget in node.widgets}
        is_dummy: list[bool] = []
        for spec in node.node_class.inputs:
            forced = is_forced(spec)
            if not forced and spec.name not in names:
                continue
            is_dummy.append(forced)
            if spec.options.get(CONTROL_NAME) or (
                self.rules.seed_name_doubles_saved_value and spec.name in _SEEDS
            ):
                is_dummy.append(False)
        if len(is_dummy) != len(values) or True not in is_dummy:
            return values
        return [value for value, dummy in zip(values, is_dummy, strict=True) if not dummy]


def drop_orphaned_slots(graph: Graph) -> None:
    """Remove sockets of widgets that do not exist (any more), with what is connected to them."""
    for node in graph.nodes:
        if node.role is not Role.CLASS or node.is_regular:
            continue
        index = 0
        while index < len(node.inputs):
            slot = node.inputs[index]
            index += 1  # like the frontend, do not look at the one that moves up
            if slot.widget is not None and node.widget(slot.widget) is None:
                graph.disconnect(slot)
                node.inputs.remove(slot)


def index_targets(graph: Graph) -> None:
    """Let each link know the index of the input that holds it."""
    links = graph.links
    for node in graph.nodes:
        for index, slot in enumerate(node.inputs):
            if slot.link is not None and (link := links.get(slot.link)) is not None:
                link.target_slot = index


def _connect_by_name(node: Node) -> None:
    """Overlay the saved inputs: those of known names give their link, others are added."""
    saved = {entry.name: entry for entry in node.saved.inputs}
    for slot in node.inputs:
        entry = saved.get(slot.name)
        slot.link = None if entry is None else entry.link
    known = {slot.name for slot in node.inputs}
    if not known.issuperset(saved):
        node.is_regular = False
        node.inputs += [
            Slot(entry.name, entry.type, entry.link, entry.widget)
            for entry in node.saved.inputs
            if entry.name not in known
        ]


def _take_outputs(node: Node) -> None:
    saved = node.saved.outputs
    for output, entry in zip(node.outputs, saved, strict=False):
        output.links = list(entry.links)
    node.outputs += [
        Output(entry.name, entry.type, list(entry.links)) for entry in saved[len(node.outputs) :]
    ]


def _take_saved_slots(node: Node) -> None:
    """Take the slots as the file has them: nothing is known about the class."""
    saved = node.saved
    node.inputs = [Slot(e.name, e.type, e.link, e.widget) for e in saved.inputs]
    node.outputs = [Output(e.name, e.type, list(e.links)) for e in saved.outputs]
    if node.role is Role.PRIMITIVE and not node.outputs:
        node.outputs = [Output("connect to widget input", "*")]
    if node.role is Role.REROUTE and not node.inputs:
        node.inputs = [Slot("", "*")]


def _guessed_widgets(saved: SavedNode) -> Iterable[Widget]:
    """Name the values of a node of an unknown class as well as the file allows.

    Newer editors save them by name. Otherwise the sockets of widgets, which the file lists in order,
    take the values in order; the value behind a seed that says how it changes is skipped.
    """
    named = saved.named_values
    if named is None and isinstance(saved.values, Mapping):
        named = saved.values
    if named is not None:
        pairs = islice(named.items(), _MOST_GUESSED)
        return [_guess(str(name), value) for name, value in pairs if name != CONTROL_NAME]
    values = list(saved.values) if isinstance(saved.values, Sequence) else []
    found: list[Widget] = []
    at = 0
    for entry in saved.inputs:
        if len(found) == _MOST_GUESSED or at >= len(values):
            break
        if entry.widget is None:
            continue
        found.append(_guess(entry.widget, values[at]))
        at += 1
        if entry.widget in _SEEDS and at < len(values) and _is_control(values[at]):
            at += 1
    return found


def _guess(name: str, value: object) -> Widget:
    return Widget(name, Kind.OTHER, value, None, is_saved=True, is_sent=True)


def _is_control(value: object) -> bool:
    return isinstance(value, (str, bool)) and value in _CONTROLS


def _output_type(declared: object) -> str:
    if isinstance(declared, list):
        return "COMBO"
    return "*" if declared == "COMFY_MATCHTYPE_V3" else str(declared)
