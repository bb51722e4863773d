"""`interface`: find the inputs and outputs of a workflow, from what its author said or else from what it holds."""

from collections.abc import Iterator
from dataclasses import dataclass

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.convert import convert
from comfyserve.workflow.graph import UiWorkflow
from comfyserve.workflow.interface.app_mode import (
    Finder,
    Promoted,
    app_inputs,
    app_outputs,
    linear_data,
)
from comfyserve.workflow.interface.entries import (
    Entry,
    guessed_outputs,
    make_inputs,
    make_outputs,
)
from comfyserve.workflow.interface.guess import Guess, guess
from comfyserve.workflow.interface.marks import marked_inputs, marked_outputs
from comfyserve.workflow.interface.model import Interface, Role, Source
from comfyserve.workflow.prepare import Prepared, prepare
from comfyserve.workflow.problems import Problem
from comfyserve.workflow.prompt_nodes import Nodes, Place
from comfyserve.workflow.reader import parse_ui


@dataclass(frozen=True, slots=True)
class _Found:
    source: Source
    entries: list[Entry]
    outputs: list[tuple[str, str]]


def interface(workflow: object, catalog: NodeCatalog) -> Interface:
    """Return the interface of a workflow: a parsed JSON body of any format, or what `prepare` made of it.

    App mode decides where there is one, then marked nodes, then promoted subgraph widgets together with what
    can be told from the nodes, then that alone. Never raises on user data.
    """
    prepared = workflow if isinstance(workflow, Prepared) else prepare(workflow, catalog)
    nodes = Nodes(prepared.prompt, catalog)
    problems: list[Problem] = []
    guesses = guess(nodes)
    found = _from_editor(prepared, nodes, catalog, problems) or _from_marks(nodes, problems)
    if found is None:
        found = _from_nodes(prepared, nodes, catalog, _merged(nodes, guesses))
    roles = {each.place: each.role for each in guesses}
    outputs = found.outputs or list(guessed_outputs(nodes))
    return Interface(
        found.source,
        make_inputs(nodes, found.entries, roles),
        make_outputs(nodes, outputs),
        tuple(problems),
    )


def _merged(nodes: Nodes, guesses: list[Guess]) -> list[Entry]:
    """Make one input of those with the same role and value: both passes of a sampler, both text encoders."""
    groups: dict[tuple[Role | None, str], list[Place]] = {}
    for each in guesses:
        value = nodes.value(each.place)
        is_alone = each.role is None or value in ("", None)
        key = f"{each.place}" if is_alone else f"{type(value).__name__} {value}"
        groups.setdefault((each.role, key), []).append(each.place)
    return [Entry(tuple(places), role) for (role, _), places in groups.items()]


def _from_editor(
    prepared: Prepared, nodes: Nodes, catalog: NodeCatalog, problems: list[Problem]
) -> _Found | None:
    """Read app mode."""
    if prepared.source is None:
        return None
    workflow = parse_ui(prepared.source)
    data = linear_data(workflow)
    if data is None:
        return None
    finder = Finder(nodes, workflow, _promoted(prepared, workflow, catalog))
    entries = list(app_inputs(data, finder, nodes, problems))
    outputs = list(app_outputs(data, nodes))
    return _Found(Source.APP_MODE, entries, outputs) if entries or outputs else None


def _from_marks(nodes: Nodes, problems: list[Problem]) -> _Found | None:
    entries = list(marked_inputs(nodes, problems))
    outputs = list(marked_outputs(nodes))
    return _Found(Source.MARKED, entries, outputs) if entries or outputs else None


def _from_nodes(
    prepared: Prepared, nodes: Nodes, catalog: NodeCatalog, guessed: list[Entry]
) -> _Found:
    """Take what subgraphs of the root expose, and of all other nodes what was guessed."""
    exposed: list[Entry] = []
    closed: tuple[str, ...] = ()
    if prepared.source is not None:
        workflow = parse_ui(prepared.source)
        promoted = _promoted(prepared, workflow, catalog)
        exposed = list(_exposed(workflow, promoted, nodes))
        owners = {owner for owner, _ in promoted}
        closed = tuple(f"{node.id}:" for node in workflow.graph.nodes if node.id in owners)
    taken = {place for entry in exposed for place in entry.places}
    rest = [
        entry
        for entry in guessed
        if not taken.intersection(entry.places) and not entry.places[0].node_id.startswith(closed)
    ]
    return _Found(Source.PROMOTED if exposed else Source.GUESSED, exposed + rest, [])


def _exposed(workflow: UiWorkflow, promoted: Promoted, nodes: Nodes) -> Iterator[Entry]:
    """Go through the promoted widgets of the root's subgraphs, in the editor's order."""
    for node in workflow.graph.nodes:
        for slot in node.inputs:
            targets = promoted.get((node.id, slot.name), ())
            places = tuple(Place(*each) for each in targets if nodes.is_set(Place(*each)))
            if places:
                yield Entry(places, name=slot.label or slot.name)


def _promoted(prepared: Prepared, workflow: UiWorkflow, catalog: NodeCatalog) -> Promoted:
    return convert(workflow, catalog, flavour=prepared.flavour).promoted
