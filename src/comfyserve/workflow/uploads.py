"""Widgets that name an uploaded file: how the older frontend spells their values.

Facts: `useImageUploadWidget` and `createAnnotatedPath` of frontend 1.27.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from comfyserve.workflow.editor import Kind, Widget
from comfyserve.workflow.values import UNSET, as_text

_FLAGS: Final = ("image_upload", "video_upload", "animated_image_upload")
_ANNOTATED: Final = re.compile(r"\[(?:input|output|temp)]", re.IGNORECASE)


def is_upload(widget: Widget) -> bool:
    """Whether a widget is a combo of files with a button for uploads."""
    return (
        widget.spec is not None
        and widget.kind is Kind.COMBO
        and any(widget.spec.options.get(flag) is True for flag in _FLAGS)
    )


def initial_upload(widget: Widget) -> str:
    """Return what such a widget makes of its default, also where there is no file to choose."""
    value = widget.value
    return _annotated(widget, "undefined" if value is UNSET else as_text(value))


def cleaned_upload(widget: Widget, value: object) -> object:
    """Return what such a widget makes of a value: nothing is no value, a list is its first entry."""
    if not value and not isinstance(value, dict):
        return widget.value
    if isinstance(value, list):
        if widget.spec is not None and widget.spec.options.get("allow_batch"):
            return [_annotated(widget, each) for each in value]
        value = value[0]
    return _annotated(widget, value)


def _annotated(widget: Widget, value: object) -> str:
    """Return the path of a file with the folder it is in; an object names the parts of one."""
    folder = widget.spec.options.get("image_folder", "input") if widget.spec else "input"
    if isinstance(value, str):
        return value + _annotation(value, folder)
    parts: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
    name, directory, kind = (parts.get(key) for key in ("filename", "subfolder", "type"))
    path = "" if name is None else as_text(name)
    if directory:
        path = f"{as_text(directory)}/{path}"
    return path + _annotation(as_text(kind), folder) if kind else path


def _annotation(text: str, folder: object) -> str:
    return "" if folder == "input" or _ANNOTATED.search(text) else f" [{as_text(folder)}]"
