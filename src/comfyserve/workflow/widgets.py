"""The widgets of a node class, as the frontend makes them of its input specs.

What a class looks like in the editor is a `ClassShape`: its sockets, its widgets in the order in which
`widgets_values` lists them, and the sockets that feed those widgets. Only a few facts are not in
`/object_info` but in the frontend's own code; they are the tables of this module.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from comfyserve.workflow.editor import Kind, Slot
from comfyserve.workflow.flavours import FrontendRules
from comfyserve.workflow.specs import InputSpec, NodeClass, input_spec
from comfyserve.workflow.values import UNSET
from comfyserve.workflow.widget_plans import (
    DYNAMIC_COMBO,
    WidgetPlan,
    is_widget_type,
    plans,
    widget_type,
)

AUTOGROW: Final = "COMFY_AUTOGROW_V3"
MATCH_TYPE: Final = "COMFY_MATCHTYPE_V3"

_AUDIO_PLAYERS: Final = frozenset(
    {"LoadAudio", "SaveAudio", "PreviewAudio", "SaveAudioMP3", "SaveAudioOpus", "SaveAudioAdvanced"}
)
_MODEL_VIEWERS: Final = frozenset({"Preview3D", "Preview3DAnimation", "SaveGLB"})
_IMAGE_UPLOADS: Final = ("image_upload", "video_upload", "animated_image_upload")


@dataclass(frozen=True, slots=True)
class ClassShape:
    """What a fresh node of a class looks like in the editor."""

    specs: tuple[InputSpec, ...]
    """All inputs in the editor's order, those that only the frontend adds included."""
    sockets: tuple[tuple[str, str], ...]
    """Name and type of the inputs without a widget."""
    widgets: tuple[WidgetPlan, ...]
    widget_sockets: tuple[tuple[str, str], ...]
    """Name and type of the inputs that feed a widget of the same name."""
    is_dynamic: bool
    """Whether widgets or sockets come and go with the values: `sockets` and `widgets` say nothing then."""
    has_forced: bool
    """Whether there are inputs that had a widget in old files and have none now."""

    def slots(self) -> list[Slot]:
        """Make the input slots: plain sockets first, then those of the widgets."""
        slots = [Slot(name, kind) for name, kind in self.sockets]
        slots += [Slot(name, kind, None, name) for name, kind in self.widget_sockets]
        return slots


@lru_cache(maxsize=4096)
def class_shape(node_class: NodeClass, rules: FrontendRules, *, is_ordered: bool) -> ClassShape:
    """Return what nodes of the class look like; `is_ordered`: the server sent `input_order`."""
    specs = tuple(_with_frontend_inputs(node_class, is_ordered=is_ordered))
    is_dynamic = rules.has_dynamic_inputs and any(
        spec.type in (AUTOGROW, DYNAMIC_COMBO, MATCH_TYPE) for spec in specs
    )
    return ClassShape(
        specs=specs,
        sockets=tuple((s.name, s.type) for s in specs if not is_widget(s, rules)),
        widgets=() if is_dynamic else tuple(_all_plans(node_class, specs, rules)),
        widget_sockets=tuple((s.name, s.type) for s in specs if is_widget(s, rules)),
        is_dynamic=is_dynamic,
        has_forced=any(is_forced(spec) for spec in specs),
    )


def is_widget(spec: InputSpec, rules: FrontendRules) -> bool:
    """Whether the editor shows the input as a widget (which can still be connected)."""
    return not is_forced(spec) and is_widget_type(widget_type(spec), rules)


def is_forced(spec: InputSpec) -> bool:
    """Whether the input is a socket although its type has a widget.

    An optional input with `defaultInput` keeps "nothing given" apart from a value.
    """
    options = spec.options
    return bool(options.get("forceInput")) or (
        spec.section == "optional" and bool(options.get("defaultInput"))
    )


def _all_plans(
    node_class: NodeClass, specs: tuple[InputSpec, ...], rules: FrontendRules
) -> Iterator[WidgetPlan]:
    for spec in specs:
        if is_widget(spec, rules):
            yield from plans(spec, node_class, rules)
    yield from trailing_plans(node_class, rules)


def trailing_plans(node_class: NodeClass, rules: FrontendRules) -> Iterator[WidgetPlan]:
    """Go through what the frontend's own code hangs onto a class once its inputs are there."""
    if node_class.name == "PreviewAny" and rules.text_preview_in_prompt:
        yield WidgetPlan("preview", Kind.MULTILINE, "", is_saved=False)
    elif node_class.name == "WebcamCapture":
        yield WidgetPlan("waiting for camera...", Kind.BUTTON, UNSET)
    elif node_class.name == "CustomCombo" and rules.has_dynamic_inputs:
        yield WidgetPlan("index", Kind.OPTION_INDEX, UNSET)
        yield WidgetPlan("option1", Kind.OPTION, "")


def _with_frontend_inputs(node_class: NodeClass, *, is_ordered: bool) -> Iterator[InputSpec]:
    """Go through the inputs with those that the frontend adds: last, or last of the required ones."""
    added = {spec.name: spec for spec in _frontend_inputs(node_class)}
    inputs = [added.pop(spec.name, spec) for spec in node_class.inputs]
    at = len(inputs) if is_ordered else sum(spec.is_required for spec in inputs)
    yield from (*inputs[:at], *added.values(), *inputs[at:])


def _frontend_inputs(node_class: NodeClass) -> Iterator[InputSpec]:
    name = node_class.name
    if name in _AUDIO_PLAYERS:
        yield input_spec("audioUI", "required", ["AUDIO_UI"])
    audio = node_class.input("audio")
    if any(spec.is_required and _is_upload(spec) for spec in node_class.inputs):
        yield input_spec("upload", "required", ["IMAGEUPLOAD"])
    elif audio is not None and audio.is_required and audio.options.get("audio_upload") is True:
        yield input_spec("upload", "required", ["AUDIOUPLOAD"])
    if name in _MODEL_VIEWERS:
        yield input_spec("image", "required", ["PREVIEW_3D"])
    if name == "Load3DAdvanced":
        yield input_spec("viewport_state", "required", ["LOAD_3D_ADVANCED"])


def _is_upload(spec: InputSpec) -> bool:
    return spec.type == "COMBO" and any(spec.options.get(flag) is True for flag in _IMAGE_UPLOADS)
