"""What a node's widgets write into the prompt."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from comfyserve.workflow.editor import Graph, Kind, Node, Role, Widget
from comfyserve.workflow.flavours import FrontendRules
from comfyserve.workflow.values import UNSET, Choose, as_text, dynamic_prompt, replace_patterns
from comfyserve.workflow.viewport import camera_info, viewport_state

_SAVERS: Final = frozenset(
    {
        *("SaveImage", "SaveAnimatedWEBP", "SaveWEBM", "SaveAudio", "SaveGLB", "SaveAnimatedPNG"),
        *("CLIPSave", "VAESave", "ModelSave", "LoraSave", "SaveLatent"),
    }
)
_NEWER_SAVERS: Final = frozenset(
    {
        *("SaveImageAdvanced", "SaveSVGNode", "SaveVideo", "SaveAudioMP3", "SaveAudioOpus"),
        *("SaveAudioAdvanced", "Save3DAdvanced", "SaveGaussianSplat", "SavePointCloud"),
    }
)
_ALIAS: Final = "Node name for S&R"


@dataclass(frozen=True, slots=True)
class Sender:
    """Turns widget values into what the prompt holds."""

    rules: FrontendRules
    graphs: Iterable[Graph]
    """All graphs in which `%Node.widget%` looks for its node, inner ones first."""
    choose: Choose
    now: datetime | None
    named: dict[str, Node] = field(default_factory=dict)
    """The nodes by alias, then by title; filled when first looked for."""

    def inputs(self, node: Node, *, is_shown: bool) -> dict[str, Any]:
        """Return the inputs that the widgets of a node give. `is_shown`: it is in the root graph."""
        found: dict[str, Any] = {}
        for widget in node.widgets:
            if not widget.is_sent:
                continue
            value = self._value(node, widget, is_shown=is_shown)
            if value is not UNSET:
                found[widget.name] = wrapped(value, widget.kind)
        return found

    def _value(self, node: Node, widget: Widget, *, is_shown: bool) -> object:
        value = widget.value
        match widget.kind:
            case Kind.OPTION_INDEX:
                return _chosen_option(node)
            case Kind.FIXED if is_shown and widget.name == "viewport_state":
                return _view(node)
            case Kind.INT | Kind.FLOAT if isinstance(value, float) and math.isnan(value):
                return None
            case Kind.TEXT | Kind.MULTILINE if isinstance(value, str):
                return self._text(node, widget, value)
            case _:
                return value

    def _text(self, node: Node, widget: Widget, value: str) -> str:
        if widget.spec is not None and widget.spec.options.get("dynamicPrompts") is True:
            return dynamic_prompt(value, self.choose)
        if widget.name == "filename_prefix" and self._is_saver(node.type):
            return self.replaced(value)
        return value

    def _is_saver(self, class_type: str) -> bool:
        if class_type in _SAVERS:
            return True
        return self.rules.has_dynamic_inputs and class_type in _NEWER_SAVERS

    def replaced(self, text: str) -> str:
        """Replace `%Node.widget%` and `%date:FORMAT%` in a text."""
        return replace_patterns(text, self._find, self.now)

    def _find(self, name: str, widget_name: str) -> str | None:
        """Return the value of a widget, of the node of that alias or else of that title."""
        if not self.named:
            self._name_all()
        node = self.named.get(name)
        widget = node.widget(widget_name) if node is not None else None
        return None if widget is None else as_text(widget.value)

    def _name_all(self) -> None:
        nodes = [node for graph in self.graphs for node in graph.nodes]
        for node in nodes:
            alias = self._alias(node)
            if isinstance(alias, str):
                self.named.setdefault(alias, node)
        for node in nodes:
            self.named.setdefault(node.title, node)

    def _alias(self, node: Node) -> object:
        if _ALIAS in node.properties or node.role is not Role.CLASS:
            return node.properties.get(_ALIAS)
        return None if self._is_saver(node.type) else node.type


def wrapped(value: object, kind: Kind) -> object:
    """Wrap a list, which would be taken for a connection otherwise."""
    if not isinstance(value, list):
        return value
    return {"__type__": "CURVE", "__value__": value} if kind is Kind.CURVE else {"__value__": value}


def _chosen_option(node: Node) -> int:
    """Return the place of what a `CustomCombo` has chosen among its options, -1 for none of them."""
    choice = node.widgets[0].value
    values = [widget.value for widget in node.widgets if widget.kind is Kind.OPTION]
    return values.index(choice) if choice in values else -1


def _view(node: Node) -> dict[str, Any]:
    width, height = (node.widget(side) for side in ("width", "height"))
    size = (width.value if width else None, height.value if height else None)
    if node.type == "Load3DAdvanced":
        return {"camera_info": camera_info(node.properties, *size), "model_3d_info": []}
    return viewport_state(node.properties, *size)
