"""The prompt that `run` sends: read it, put values into it, name its nodes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from comfyserve.cli.answers import Remark
from comfyserve.domain.errors import InvalidInput

_SHOWN_NODES = 12


@dataclass(frozen=True, slots=True)
class WorkflowFile:
    """A body for `POST /prompt`, and the graph in it. Remarks: what was assumed to get there."""

    body: Mapping[str, Any]
    prompt: Mapping[str, Any]
    remarks: tuple[Remark, ...] = ()

    def labels(self) -> dict[str, str]:
        """What to call each node: its title, else its class."""
        return {node_id: _label(node) for node_id, node in self.prompt.items()}

    def with_prompt(self, prompt: Mapping[str, Any]) -> "WorkflowFile":
        """Return the file with another graph."""
        return replace(self, body={**self.body, "prompt": prompt}, prompt=prompt)


def read_prompt(data: bytes) -> WorkflowFile | None:
    """Read a prompt in API format, or a whole body with one in it; None for anything else."""
    document = read_json(data)
    if not isinstance(document, dict):
        return None
    body = document if "prompt" in document and not is_prompt(document) else {"prompt": document}
    prompt = body["prompt"]
    return WorkflowFile(body, prompt) if is_prompt(prompt) else None


def read_json(data: bytes) -> Any:  # noqa: ANN401 - the JSON border
    """Decode JSON; None for what is not."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def is_prompt(document: object) -> bool:
    """Whether it is a graph in API format: nodes by id, each with its class."""
    return (
        isinstance(document, dict)
        and bool(document)
        and all(isinstance(node, dict) and "class_type" in node for node in document.values())
    )


def set_inputs(file: WorkflowFile, settings: Sequence[str]) -> tuple[WorkflowFile, list[str]]:
    """Apply NODE.INPUT=VALUE texts; return the file and what looks wrong but may be right.

    NODE is an id, or a title or class that only one node has. VALUE is read as JSON where the
    present value is not text. Raises InvalidInput.
    """
    prompt, warnings = dict(file.prompt), []
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f"--set takes NODE.INPUT=VALUE, not '{text}'")
        node_id, name = _find_input(prompt, key)
        inputs = prompt[node_id].get("inputs") or {}
        if name not in inputs:
            known = ", ".join(inputs) or "none"
            warnings.append(
                f"node {node_id} has no input '{name}' in the file (it has: {known}); "
                "it is sent all the same"
            )
        prompt[node_id] = {
            **prompt[node_id],
            "inputs": {**inputs, name: _parse(value, inputs.get(name))},
        }
    return file.with_prompt(prompt) if settings else file, warnings


def refer_to(file: WorkflowFile, given: Sequence[str], reference: str) -> tuple[WorkflowFile, int]:
    """Replace input values that are one of the `given` texts; return the file and how many were."""
    count = 0
    prompt: dict[str, Any] = {}
    for node_id, node in file.prompt.items():
        inputs = dict(node.get("inputs") or {})
        for name, value in inputs.items():
            if isinstance(value, str) and value in given:
                inputs[name] = reference
                count += 1
        prompt[node_id] = {**node, "inputs": inputs}
    return file.with_prompt(prompt) if count else file, count


def _label(node: Mapping[str, Any]) -> str:
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, Mapping) else None
    return str(title or node.get("class_type") or "")


def _find_input(prompt: Mapping[str, Any], key: str) -> tuple[str, str]:
    """Divide NODE.INPUT: both may hold dots, so the first division that names a node counts."""
    parts = key.split(".")
    for count in range(1, len(parts)):
        node, name = ".".join(parts[:count]), ".".join(parts[count:])
        if name and (node_id := _find_node(prompt, node)) is not None:
            return node_id, name
    shown = [f"{node_id} {_label(node)}" for node_id, node in prompt.items()][:_SHOWN_NODES]
    more = ", ..." if len(prompt) > _SHOWN_NODES else ""
    raise InvalidInput(
        f"--set {key}: no node is called so, or more than one is; use an id. "
        f"Nodes: {', '.join(shown)}{more}"
    )


def _find_node(prompt: Mapping[str, Any], name: str) -> str | None:
    if name in prompt:
        return name
    for read in (_label, lambda node: str(node.get("class_type"))):
        found = [node_id for node_id, node in prompt.items() if read(node) == name]
        if len(found) == 1:
            return found[0]
    return None


def _parse(text: str, present: object) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(present, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
