"""`publication`: whether a workflow can be a typed endpoint, with all reasons why not."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.interface import Interface, InterfaceInput, interface, read_interface
from comfyserve.workflow.prepare import Prepared
from comfyserve.workflow.problems import Code, Problem
from comfyserve.workflow.prompt_nodes import Nodes, Place
from comfyserve.workflow.requirements import Requirements, requirements
from comfyserve.workflow.validate import Verdict, validate

_MISSING_FILE = frozenset({Code.VALUE_NOT_IN_LIST, Code.CUSTOM_VALIDATION_FAILED})


@dataclass(frozen=True, slots=True)
class Publication:
    """A workflow on its way to be an endpoint. It can be one where `problems` is empty."""

    prompt: Mapping[str, Any]
    interface: Interface
    requirements: Requirements
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    """What it lacks and may get later: models, where they may be missing."""


def publication(
    prepared: Prepared,
    catalog: NodeCatalog,
    given: object = None,
    *,
    allow_missing: bool = False,
) -> Publication:
    """Judge a workflow strictly: every output of it has to run.

    `given` is the JSON form of an interface, to be used in place of the inferred one. An input file that
    the deployment lacks is no fault where an input of the interface names it: callers have to give it. With
    `allow_missing` model files may be lacking.
    """
    needs = requirements(prepared, catalog)
    inferred = interface(prepared, catalog)
    found = inferred if given is None else read_interface(given)
    if given is not None and not found.outputs:
        found = replace(found, outputs=inferred.outputs)
    exposed = {place for each in found.file_inputs() for place in each.places}
    absent = {file.name for file in needs.files if file.is_present is False}
    to_give = {file.name for file in needs.files if file.place in exposed} & absent
    verdict = prepared.verdict
    if verdict is not None and to_give:
        files = catalog.input_files or frozenset()
        verdict = validate(prepared.prompt, catalog.with_input_files(files | to_give))
    places = {
        place for model in needs.models if model.is_present is False for place in model.places
    }
    judged = list(_judged(prepared, verdict))
    later = [each for each in judged if allow_missing and _is_missing_file(each, places)]
    nodes = Nodes(prepared.prompt, catalog)
    return Publication(
        prompt=prepared.prompt,
        interface=_asking_for(found, nodes, to_give),
        requirements=needs,
        problems=(
            *(each for each in judged if each not in later),
            *found.problems,
            *_misplaced(found, nodes, verdict),
        ),
        warnings=tuple(later),
    )


def _judged(prepared: Prepared, verdict: Verdict | None) -> Iterator[Problem]:
    """Go through the errors, without the one that only sums up those of the nodes."""
    if verdict is None:
        yield from prepared.errors
        return
    of_nodes = [each for node in verdict.node_problems for each in node.problems]
    yield from of_nodes
    if verdict.error is not None and not of_nodes:
        yield verdict.error


def _is_missing_file(problem: Problem, places: Iterable[Place]) -> bool:
    here = Place(problem.node_id or "", problem.input_name or "")
    return problem.code in _MISSING_FILE and here in places


def _asking_for(found: Interface, nodes: Nodes, to_give: Iterable[str]) -> Interface:
    """Return the interface with inputs that name absent files as required, without a default."""
    names = set(to_give)

    def asked(each: InterfaceInput) -> InterfaceInput:
        held = {str(nodes.value(place)) for place in each.places}
        if not each.kind.is_file or not names & held:
            return each
        return replace(each, is_required=True, default=None)

    return replace(found, inputs=tuple(asked(each) for each in found.inputs))


def _misplaced(found: Interface, nodes: Nodes, verdict: Verdict | None) -> Iterator[Problem]:
    """Go through what an interface names that the prompt does not have."""
    if verdict is None:
        return
    for each in found.inputs:
        for place in each.places:
            if not nodes.is_set(place):
                yield Problem(
                    Code.PLACE_GONE,
                    f"Input '{each.name}' sets '{place.input}' of node {place.node_id}, "
                    "which holds no value",
                    node_id=place.node_id,
                    input_name=each.name,
                    hint="The interface belongs to another workflow: infer it again, or mend its 'sets'.",
                )
    for output in found.outputs:
        if output.node_id not in nodes.outputs:
            yield Problem(
                Code.PLACE_GONE,
                f"Output '{output.name}' is node {output.node_id}, which is no output node",
                node_id=output.node_id,
                hint=f"The output nodes are: {', '.join(nodes.outputs) or 'none'}.",
            )
