"""A workflow and values for its inputs become a prompt, or a refusal that names the nodes. PURE."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfyserve.domain.errors import InvalidInput
from comfyserve.sdk.errors import PromptRefused
from comfyserve.workflow import NodeCatalog, Prepared, Problem, prepare, prepare_file
from comfyserve.workflow.interface import Interface, apply, interface
from comfyserve.workflow.problems import error_body
from comfyserve.workflow.validate import validate

Workflow = str | Path | bytes | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """A prompt to submit. `titles` are of its nodes, by id."""

    prompt: Mapping[str, Any]
    titles: Mapping[str, str]
    source: Mapping[str, Any] | None


def make_ready(
    body: Mapping[str, Any] | bytes, inputs: Mapping[str, Any], catalog: NodeCatalog
) -> Ready:
    """Convert, set the inputs, judge. Raises InvalidInput and PromptRefused."""
    prepared = prepare_file(body, catalog) if isinstance(body, bytes) else prepare(body, catalog)
    if prepared.format is None or prepared.verdict is None:
        raise InvalidInput("; ".join(_text(problem) for problem in prepared.errors))
    titles = {node_id: _title(prepared, node_id) for node_id in prepared.prompt}
    prompt = _with_inputs(prepared, inputs, catalog)
    # All or nothing: half of a picture is no answer.
    verdict = validate(prompt, catalog).all_or_nothing()
    if verdict.error is not None:
        nodes = [problem for node in verdict.node_problems for problem in node.problems]
        lines = [_line(problem, titles) for problem in nodes or [verdict.error]]
        raise PromptRefused(
            f"the workflow would not run: {lines[0]}",
            body=error_body(verdict.error, verdict.node_problems),
            evidence=lines,
        )
    return Ready(prompt, titles, prepared.source)


def file_inputs(inputs: Mapping[str, Any]) -> Mapping[str, Path]:
    """The values that are local files, to be uploaded first."""
    return {name: value for name, value in inputs.items() if isinstance(value, Path)}


def _with_inputs(
    prepared: Prepared, inputs: Mapping[str, Any], catalog: NodeCatalog
) -> Mapping[str, Any]:
    """Values by the names of the workflow's interface, or as NODE.INPUT. Raises InvalidInput."""
    found = interface(prepared, catalog)
    named = {name: value for name, value in inputs.items() if found.input(name) is not None}
    prompt = {**prepared.prompt}
    for name in inputs.keys() - named.keys():
        node_id, _, key = name.rpartition(".")
        node = prompt.get(node_id)
        if node is None or key not in node.get("inputs", {}):
            known = ", ".join(each.name for each in found.inputs)
            raise InvalidInput(
                f"the workflow has no input '{name}'; it has: {known}. NODE_ID.INPUT names any other",
                code="unknown_input",
            )
        prompt[node_id] = {**node, "inputs": {**node["inputs"], key: inputs[name]}}
    # What is not given keeps what the workflow holds.
    applied = apply(prompt, {**_kept(prompt, found), **named}, found)
    if not applied.ok:
        raise InvalidInput("; ".join(_text(p) for p in applied.problems), code="invalid_inputs")
    return applied.prompt


def _kept(prompt: Mapping[str, Any], found: Interface) -> Mapping[str, Any]:
    """The present values of inputs that must be given."""
    kept = {}
    for each in found.inputs:
        if each.is_required and each.places:
            place = each.places[0]
            present = prompt.get(place.node_id, {}).get("inputs", {}).get(place.input)
            if present not in (None, ""):
                kept[each.name] = present
    return kept


def _title(prepared: Prepared, node_id: str) -> str:
    label = prepared.labels().get(node_id)
    return label.title if label is not None and label.title else node_id


def _line(problem: Problem, titles: Mapping[str, str]) -> str:
    if problem.node_id is None:
        return _text(problem)
    title = problem.node_title or titles.get(problem.node_id, "")
    return f'node {problem.node_id} "{title}": {_text(problem)}'


def _text(problem: Problem) -> str:
    details = f": {problem.details}" if problem.details else ""
    return f"{problem.message}{details} {problem.hint}".strip()
