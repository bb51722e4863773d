"""Recognise what somebody handed in: which workflow format it is, and where in the body it sits."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeGuard

_MAX_WRAPPERS: Final = 6
_BESIDE: Final = frozenset({"workflow", "extra_data", "extra_pnginfo", "extra"})
"""Where a UI workflow can stand beside a prompt."""


class Format(StrEnum):
    """The formats that `prepare` takes."""

    API = "api"
    """The bare prompt: nodes by id, each with `class_type` and `inputs`."""
    API_PROMPT = "api_prompt"
    """`{"prompt": {...}}`, the body of ComfyUI's `POST /prompt`."""
    API_EXTRA_DATA = "api_extra_data"
    """A prompt inside `extra_data`."""
    UI_0_4 = "ui_0.4"
    """What the editor saves; links are arrays."""
    UI_1 = "ui_1"
    """What the editor saves in schema version 1; links are objects."""
    APP = "app"
    """A UI export that opens as an app (`extra.linearMode`)."""

    @property
    def is_ui(self) -> bool:
        """Whether it has to be converted."""
        return self in (Format.UI_0_4, Format.UI_1, Format.APP)


@dataclass(frozen=True, slots=True)
class Recognised:
    """A workflow found in a body."""

    format: Format
    content: Any
    """The prompt or UI workflow itself, without what it was wrapped in."""
    workflow: Mapping[str, Any] | None
    """The UI workflow that stands beside a prompt, or is the content."""


def recognise(body: object) -> Recognised | None:
    """Say which format a parsed JSON body has, `None` where it is no workflow at all.

    Whatever stands under `prompt` counts as one, so that ComfyUI's own verdict on it can be given.
    """
    if is_ui(body):
        return _ui(body)
    if is_prompt(body):
        return Recognised(Format.API, body, None)
    return _wrapped(body) if isinstance(body, dict) else None


def _wrapped(body: Mapping[str, Any]) -> Recognised | None:
    beside = None if _BESIDE.isdisjoint(body) else next(_workflows(body), None)
    prompt = _unwrapped(body.get("prompt"))
    if is_ui(prompt):
        return _ui(prompt)
    if "prompt" in body:
        return Recognised(Format.API_PROMPT, prompt, beside)
    for holder in _holders(body):
        prompt = _unwrapped(holder.get("prompt"))
        if is_prompt(prompt):
            return Recognised(Format.API_EXTRA_DATA, prompt, beside)
    if is_prompt(body.get("output")):  # what the editor's `graphToPrompt` returns
        return Recognised(Format.API_PROMPT, body["output"], beside)
    return None if beside is None else _ui(beside)


def _ui(workflow: Mapping[str, Any]) -> Recognised:
    return Recognised(ui_format(workflow), workflow, workflow)


def is_ui(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value is a UI workflow: it has a list of nodes."""
    if not isinstance(value, dict) or not isinstance(value.get("nodes"), list):
        return False
    return any(key in value for key in ("links", "version", "last_node_id", "state", "definitions"))


def is_prompt(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value is a bare prompt: at least one entry is a node with a class."""
    return isinstance(value, dict) and any(
        isinstance(node, dict) and "class_type" in node for node in value.values()
    )


def ui_format(workflow: Mapping[str, Any]) -> Format:
    """Tell the kinds of UI export apart."""
    extra = workflow.get("extra")
    if isinstance(extra, dict) and extra.get("linearMode") is True:
        return Format.APP
    if workflow.get("version") == 0.4:
        return Format.UI_0_4
    links = workflow.get("links")
    has_arrays = isinstance(links, list) and any(isinstance(link, list) for link in links[:1])
    return Format.UI_0_4 if has_arrays else Format.UI_1


def _holders(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Go through the objects that can hold a workflow beside or instead of a prompt."""
    pending: list[Any] = [body.get("extra_data"), body.get("extra_pnginfo"), body.get("extra")]
    for _ in range(_MAX_WRAPPERS):
        if not pending:
            return
        holder = _unwrapped(pending.pop(0))
        if isinstance(holder, dict):
            yield holder
            pending += [holder.get("extra_data"), holder.get("extra_pnginfo")]


def _workflows(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for holder in (body, *_holders(body)):
        workflow = _unwrapped(holder.get("workflow"))
        if is_ui(workflow):
            yield workflow


def _unwrapped(value: object) -> object:
    """Return a value, read if it is JSON text, as file metadata and some clients have it."""
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
