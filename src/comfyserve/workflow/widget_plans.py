"""Which widgets a type of input gets, with their defaults: one entry for each type the frontend knows.

Facts: the widget constructors of ComfyUI's frontend (`useIntWidget` and its kin, the 3D and audio extensions).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from comfyserve.workflow.editor import Kind, Widget
from comfyserve.workflow.flavours import FrontendRules
from comfyserve.workflow.specs import InputSpec, NodeClass
from comfyserve.workflow.values import UNSET

DYNAMIC_COMBO: Final = "COMFY_DYNAMICCOMBO_V3"
CONTROL_NAME: Final = "control_after_generate"
_VIEWPORTS: Final = frozenset(
    {
        *("Preview3DAdvanced", "Save3DAdvanced", "PreviewGaussianSplat", "PreviewPointCloud"),
        *("SaveGaussianSplat", "SavePointCloud"),
    }
)


@dataclass(frozen=True, slots=True)
class WidgetPlan:
    """A widget before any node has it."""

    name: str
    kind: Kind
    default: object
    spec: InputSpec | None = None
    is_saved: bool = True
    is_sent: bool = True

    def build(self) -> Widget:
        """Make the widget with its default."""
        return Widget(self.name, self.kind, self.default, self.spec, self.is_saved, self.is_sent)


def is_widget_type(kind: str, rules: FrontendRules) -> bool:
    """Whether the frontend has a widget for a type."""
    return kind in _PLANS and kind not in (_OLD_ONLY if rules.has_dynamic_inputs else _NEW_ONLY)


def widget_type(spec: InputSpec) -> str:
    """Return the type that decides which widget an input gets."""
    declared = spec.options.get("widgetType")
    return declared if isinstance(declared, str) and declared else spec.type


def plans(spec: InputSpec, node_class: NodeClass, rules: FrontendRules) -> Iterator[WidgetPlan]:
    """Go through the widgets of one input: its own, then the helpers that come with it."""
    yield from _PLANS[widget_type(spec)](spec, node_class, rules)


def plain_kind(spec: InputSpec) -> Kind | None:
    """Return the kind of widget that a bare type gets, `None` where it gets none."""
    return _PLAIN_KINDS.get(widget_type(spec))


_Plans = Callable[[InputSpec, NodeClass, FrontendRules], Iterator[WidgetPlan]]


def _int(spec: InputSpec, _class: NodeClass, _rules: FrontendRules) -> Iterator[WidgetPlan]:
    yield WidgetPlan(spec.name, Kind.INT, _default(spec, 0), spec)
    control = spec.options.get(CONTROL_NAME)
    if spec.name in ("seed", "noise_seed") if control is None else control:
        yield _control(control)


def _float(spec: InputSpec, _class: NodeClass, _rules: FrontendRules) -> Iterator[WidgetPlan]:
    yield WidgetPlan(spec.name, Kind.FLOAT, _default(spec, 0), spec)
    if spec.options.get(CONTROL_NAME):
        yield _control(spec.options[CONTROL_NAME])


def _control(option: object) -> WidgetPlan:
    name = option if isinstance(option, str) else CONTROL_NAME
    return WidgetPlan(name, Kind.CONTROL, "randomize", is_sent=False)


def _string(spec: InputSpec, _class: NodeClass, _rules: FrontendRules) -> Iterator[WidgetPlan]:
    kind = Kind.MULTILINE if spec.options.get("multiline") else Kind.TEXT
    yield WidgetPlan(spec.name, kind, _default(spec, ""), spec)


def _combo(spec: InputSpec, _class: NodeClass, _rules: FrontendRules) -> Iterator[WidgetPlan]:
    if spec.options.get("multi_select"):
        yield WidgetPlan(spec.name, Kind.OTHER, [], spec)
        return
    choices, remote = spec.choices or (), spec.options.get("remote")
    fallback = choices[0] if choices else "Loading..." if remote else UNSET
    yield WidgetPlan(spec.name, Kind.COMBO, spec.options.get("default") or fallback, spec)
    if remote:
        yield WidgetPlan("Auto-refresh after generation", Kind.TOGGLE, default=False, is_sent=False)
        if isinstance(remote, Mapping) and remote.get("refresh_button"):
            yield WidgetPlan("refresh", Kind.BUTTON, "refresh")
    if spec.options.get(CONTROL_NAME):
        yield _control(spec.options[CONTROL_NAME])
        yield WidgetPlan("control_filter_list", Kind.CONTROL, "", is_sent=False)


def _dynamic_combo(
    spec: InputSpec, _class: NodeClass, _rules: FrontendRules
) -> Iterator[WidgetPlan]:
    options = spec.options.get("options")
    keys = (
        [o.get("key") for o in options if isinstance(o, Mapping)]
        if isinstance(options, list)
        else []
    )
    yield WidgetPlan(spec.name, Kind.DYNAMIC_COMBO, keys[0] if keys else UNSET, spec)


def _bounding_box(
    spec: InputSpec, _class: NodeClass, _rules: FrontendRules
) -> Iterator[WidgetPlan]:
    default = _default(spec, {"x": 0, "y": 0, "width": 512, "height": 512})
    yield WidgetPlan(spec.name, Kind.OTHER, default, spec)
    for side in ("x", "y", "width", "height"):
        value = default.get(side) if isinstance(default, Mapping) else UNSET
        yield WidgetPlan(side, Kind.INT, value, is_sent=False)


def _load_3d(spec: InputSpec, node_class: NodeClass, _rules: FrontendRules) -> Iterator[WidgetPlan]:
    if node_class.input("model_file") is not None:
        yield WidgetPlan("upload 3d model", Kind.BUTTON, "upload3dmodel")
        yield WidgetPlan("upload extra resources", Kind.BUTTON, "uploadExtraResources")
        yield WidgetPlan("clear", Kind.BUTTON, "clear")
    name = "viewport_state" if node_class.name in _VIEWPORTS else "image"
    yield WidgetPlan(name, Kind.FIXED, "", spec)


def _audio_player(spec: InputSpec, _class: NodeClass, rules: FrontendRules) -> Iterator[WidgetPlan]:
    yield WidgetPlan(
        spec.name, Kind.FIXED, "", is_saved=False, is_sent=rules.audio_player_in_prompt
    )


def _audio_record(
    spec: InputSpec, _class: NodeClass, _rules: FrontendRules
) -> Iterator[WidgetPlan]:
    yield WidgetPlan(spec.name, Kind.FIXED, "", spec)
    yield WidgetPlan(spec.name, Kind.BUTTON, "", is_sent=False)


def _image_compare(
    spec: InputSpec, _class: NodeClass, _rules: FrontendRules
) -> Iterator[WidgetPlan]:
    yield WidgetPlan(spec.name, Kind.OTHER, ["", ""], spec, is_saved=False)


def _video_edit(spec: InputSpec, _class: NodeClass, _rules: FrontendRules) -> Iterator[WidgetPlan]:
    features = spec.options.get("features") or ("trim", "crop")
    parts = {
        "trim": {"start_time": 0, "duration": 0},
        "crop": {"x": 0, "y": 0, "width": 0, "height": 0},
    }
    default = {name: part for name, part in parts.items() if name in features}
    yield WidgetPlan(spec.name, Kind.OTHER, _default(spec, default), spec)


def _plain(kind: Kind, fallback: object, *, inner: str | None = None) -> _Plans:
    """Make the plan of a type with one widget; `inner`: its default stands in the option `options`."""

    def build(spec: InputSpec, _class: NodeClass, _rules: FrontendRules) -> Iterator[WidgetPlan]:
        default = _default(spec, None)
        options = spec.options.get("options")
        if default is None and inner is not None and isinstance(options, Mapping):
            default = options.get(inner)
        yield WidgetPlan(spec.name, kind, fallback if default is None else default, spec)

    return build


def _button(value: str) -> _Plans:
    """Make the plan of a button: it takes a place in the file and none in the prompt."""

    def build(spec: InputSpec, _class: NodeClass, _rules: FrontendRules) -> Iterator[WidgetPlan]:
        yield WidgetPlan(spec.name, Kind.BUTTON, value, is_sent=False)

    return build


def _default(spec: InputSpec, fallback: object) -> object:
    default = spec.options.get("default")
    return fallback if default is None else default


_STRAIGHT_CURVE: Final = {"points": [[0, 0], [1, 1]], "interpolation": "monotone_cubic"}
_PLANS: Final[Mapping[str, _Plans]] = {
    "INT": _int,
    "FLOAT": _float,
    "BOOLEAN": _plain(Kind.TOGGLE, fallback=False),
    "STRING": _string,
    "COMBO": _combo,
    DYNAMIC_COMBO: _dynamic_combo,
    "MARKDOWN": _plain(Kind.MARKDOWN, ""),
    "TEXTAREA": _plain(Kind.TEXT, "", inner="default"),
    "COLOR": _plain(Kind.OTHER, "#000000", inner="default"),
    "COLORS": _plain(Kind.OTHER, []),
    "CURVE": _plain(Kind.CURVE, _STRAIGHT_CURVE),
    "RANGE": _plain(Kind.OTHER, {"min": 0.0, "max": 1.0}),
    "CHART": _plain(Kind.OTHER, {}, inner="data"),
    "GALLERIA": _plain(Kind.OTHER, [], inner="images"),
    "PAINTER": _plain(Kind.TEXT, ""),
    "COMPOSITOR": _plain(Kind.OTHER, {}),
    "VIDEO_EDIT": _video_edit,
    "BOUNDING_BOX": _bounding_box,
    "BOUNDING_BOXES": _plain(Kind.OTHER, []),
    "IMAGECOMPARE": _image_compare,
    "IMAGEUPLOAD": _button("image"),
    "AUDIOUPLOAD": _button(""),
    "AUDIO_UI": _audio_player,
    "AUDIO_RECORD": _audio_record,
    "WEBCAM": _plain(Kind.FIXED, ""),
    "LOAD_3D": _load_3d,
    "LOAD_3D_ADVANCED": _plain(Kind.FIXED, ""),
    "PREVIEW_3D": _plain(Kind.FIXED, ""),
    "LOAD_3D_ANIMATION": _load_3d,
    "FILEUPLOAD": _plain(Kind.OTHER, ""),
    "MULTISELECT": _plain(Kind.OTHER, []),
    "TREESELECT": _plain(Kind.OTHER, ""),
    "SELECTBUTTON": _plain(Kind.OTHER, ""),
}
_PLAIN_KINDS: Final[Mapping[str, Kind]] = {
    "INT": Kind.INT,
    "FLOAT": Kind.FLOAT,
    "BOOLEAN": Kind.TOGGLE,
    "STRING": Kind.TEXT,
    "COMBO": Kind.COMBO,
}
_OLD_ONLY: Final = frozenset(
    {"LOAD_3D_ANIMATION", "FILEUPLOAD", "MULTISELECT", "TREESELECT", "SELECTBUTTON"}
)
_NEW_ONLY: Final = frozenset(
    {
        *(DYNAMIC_COMBO, "COLORS", "CURVE", "RANGE", "PAINTER", "COMPOSITOR", "VIDEO_EDIT"),
        *("BOUNDING_BOX", "BOUNDING_BOXES", "LOAD_3D_ADVANCED"),
    }
)
