"""The verdict on a prompt, by the project's own validator, in nothing but ComfyUI's words."""

from dataclasses import dataclass
from typing import Any

from comfyserve.engine.library import Library

_HINT_KEY = "comfyserve"
"""Where the validator puts its advice; a ComfyUI gives none."""


_STUMBLES = frozenset(
    {
        *("prompt_not_an_object", "node_not_an_object", "class_type_not_a_name"),
        *("inputs_not_an_object", "meta_not_an_object", "replacement_failed", "targets_not_a_list"),
    }
)
"""The validator's codes for what a ComfyUI does not check but trips over."""


class Unreadable(ValueError):
    """A prompt that makes ComfyUI itself stumble: it answers with a bare 500."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a prompt may run, and what to answer."""

    is_ok: bool
    prompt: dict[str, Any]
    """With its values converted to the declared types."""
    outputs: tuple[str, ...]
    body: dict[str, Any]
    """`node_errors`, and `error` where it may not run."""


def judge(library: Library, prompt: object, targets: object) -> Judgement:
    """Check a prompt against the classes and files there are now.

    Raises:
        Unreadable: it is no object of objects at all.
    """
    # Imported with the first prompt: the engine is to listen as early as it can.
    from comfyserve.workflow.validate import validate  # noqa: PLC0415

    verdict = validate(prompt, library.catalog_for(prompt), partial_execution_targets=targets)
    if verdict.error is not None and verdict.error.code in _STUMBLES:
        raise Unreadable(verdict.error.message)
    return Judgement(
        verdict.ok, dict(verdict.prompt), tuple(verdict.outputs), _plain(verdict.to_comfy())
    )


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body without the advice that the validator adds to each error."""
    errors = [error for node in body["node_errors"].values() for error in node["errors"]]
    for error in (*errors, body.get("error", {})):
        error.pop(_HINT_KEY, None)
    return body
