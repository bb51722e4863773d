"""`validate`: ComfyUI's verdict on a prompt, without a ComfyUI.

The same accept or reject, error types, messages, `node_errors` and outputs that run as `POST /prompt` of the
release that the catalog came from; what only the engine can decide is accepted and named as undecided. It never
raises on user data, whatever it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from comfyserve.workflow.bounds import MAX_NODES, too_large
from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.hints import Hinter, summary
from comfyserve.workflow.problems import Code, NodeProblems, Problem, error_body, node_errors
from comfyserve.workflow.quick_look import look
from comfyserve.workflow.remarks import remarks
from comfyserve.workflow.replace_classes import (
    Malformed,
    check_class_type,
    malformed_node,
    node_not_an_object,
    not_an_object,
    replace_classes,
)
from comfyserve.workflow.specs import NodeClass
from comfyserve.workflow.walk import MAX_FAULTY, NodeResult, TooManyFaults, Walk


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ComfyUI would answer to a prompt, and why."""

    ok: bool
    """Whether anything of it would run."""
    prompt: Mapping[str, Any]
    """The prompt with its values converted, as ComfyUI's history shows it.

    To be shown, not to be submitted: unwrapping `{"__value__": [...]}` leaves a list that reads as a link.
    """
    error: Problem | None = None
    """The problem of the whole prompt, if it is refused."""
    node_problems: tuple[NodeProblems, ...] = ()
    outputs: tuple[str, ...] = ()
    """The output nodes that would run, in the prompt's order."""
    undecided: tuple[str, ...] = ()
    """Nodes whose class checks its inputs itself, in a way only the engine knows."""
    warnings: tuple[Problem, ...] = ()
    """What ComfyUI accepts without a word, and what probably is a mistake."""

    @property
    def is_partial(self) -> bool:
        """Whether some outputs run and others are dropped."""
        return self.ok and bool(self.node_problems)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All errors: that of the prompt, then those of its nodes."""
        own = () if self.error is None else (self.error,)
        return own + tuple(problem for node in self.node_problems for problem in node.problems)

    def all_or_nothing(self) -> "Verdict":
        """Return the verdict for somebody who wants no part of it alone: that is a refusal then."""
        if not self.is_partial:
            return self
        error = _outputs_failed(f"{each.message}: {each.details}" for each in self.problems)
        return replace(
            self,
            ok=False,
            outputs=(),
            error=replace(error, hint=summary(self.node_problems)),
            warnings=tuple(w for w in self.warnings if w.code is not Code.OUTPUT_DROPPED),
        )

    def to_comfy(self) -> dict[str, Any]:
        """Return ComfyUI's JSON: the body of its 400, or the `node_errors` of its 200."""
        if self.error is not None:
            return error_body(self.error, self.node_problems)
        return {"node_errors": node_errors(self.node_problems)}


def validate(
    prompt: object,
    catalog: NodeCatalog,
    *,
    partial_execution_targets: object = None,
) -> Verdict:
    """Judge a prompt as ComfyUI would.

    `partial_execution_targets`: run only these output nodes (a list of ids, as ComfyUI takes it).
    Beyond `MAX_NODES`, or with more than `MAX_FAULTY` nodes wrong, it is refused as a whole.
    """
    plain = look(prompt, catalog) if partial_execution_targets is None else None
    if plain is not None:
        return Verdict(ok=True, prompt=plain.prompt, outputs=plain.outputs)
    return validate_by_walk(prompt, catalog, partial_execution_targets)


def validate_by_walk(
    prompt: object, catalog: NodeCatalog, partial_execution_targets: object = None
) -> Verdict:
    """Judge a prompt as `validate` does, by the walk even if it is plainly right."""
    hinter = Hinter(catalog)
    if isinstance(prompt, dict) and len(prompt) > MAX_NODES:
        return Verdict(ok=False, prompt=prompt, error=too_large(f"{len(prompt)} nodes"))
    try:
        nodes = _nodes(prompt, catalog)
        classes, outputs = _survey(nodes, catalog, partial_execution_targets)
    except Malformed as malformed:
        shown = prompt if isinstance(prompt, dict) else {}
        return Verdict(ok=False, prompt=shown, error=hinter.explain(malformed.problem, shown))
    if not outputs:
        error = Problem(Code.PROMPT_NO_OUTPUTS, "Prompt has no outputs")
        return Verdict(ok=False, prompt=nodes, error=hinter.explain(error, nodes))
    walk = Walk(nodes, classes, catalog)
    return _judge(nodes, outputs, walk, catalog, hinter)


def _judge(
    nodes: Mapping[str, Any],
    outputs: list[str],
    walk: Walk,
    catalog: NodeCatalog,
    hinter: Hinter,
) -> Verdict:
    good: list[str] = []
    failed: list[str] = []
    failures: list[str] = []
    blamed: list[NodeProblems] = []
    looked_at = 0
    is_hopeless = False
    for output in outputs:
        try:
            result = walk.visit(output)
        except TooManyFaults:
            is_hopeless = True
            result = NodeResult(is_valid=False)
        if result.is_valid:
            good.append(output)
            continue
        failures += [f"{problem.message}: {problem.details}" for problem in result.problems]
        # ComfyUI goes through all nodes seen so far: those found earlier are blamed again.
        for node_id in walk.order[looked_at:]:
            found = walk.results[node_id].problems
            if found:
                class_type = nodes[node_id]["class_type"]
                blamed.append(NodeProblems(node_id, class_type, found, failed, len(failed)))
        looked_at = len(walk.order)
        failed.append(output)
        if is_hopeless:
            good = []
            failures.append(f"more than {MAX_FAULTY} nodes are wrong: the rest was not looked at")
            break
    prompt = _coerced(nodes, walk.coerced)
    explained = tuple(hinter.explain_node(node, nodes) for node in blamed)
    error = None
    if not good:
        error = hinter.explain(_outputs_failed(failures), nodes, explained)
    return Verdict(
        ok=bool(good),
        prompt=prompt,
        error=error,
        node_problems=explained,
        outputs=tuple(good),
        undecided=tuple(walk.undecided),
        warnings=remarks(nodes, catalog, walk, failed if good else (), hinter.nearest),
    )


def _outputs_failed(failures: Iterable[str]) -> Problem:
    return Problem(
        Code.PROMPT_OUTPUTS_FAILED_VALIDATION,
        "Prompt outputs failed validation",
        details="\n".join(failures),
    )


def _coerced(nodes: Mapping[str, Any], inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    if not inputs:
        return nodes
    return {
        node_id: {**node, "inputs": inputs[node_id]} if node_id in inputs else node
        for node_id, node in nodes.items()
    }


def _nodes(prompt: object, catalog: NodeCatalog) -> Mapping[str, Any]:
    """Return the nodes of a prompt, classes that are gone replaced."""
    if catalog.rules.replaces_classes:
        return replace_classes(prompt, catalog)
    if isinstance(prompt, dict):
        return prompt
    if isinstance(prompt, str | list) and not prompt:
        return {}
    raise Malformed(not_an_object(prompt))


def _survey(
    nodes: Mapping[str, Any], catalog: NodeCatalog, targets: object
) -> tuple[dict[str, NodeClass], list[str]]:
    """Return each node's class and the wanted output nodes; refuses a node without a known class."""
    classes: dict[str, NodeClass] = {}
    outputs = []
    for node_id, node in nodes.items():
        node_class = catalog.get(_class_type(node_id, node, catalog))
        if node_class is None:
            raise Malformed(_unknown_class(node_id, node, catalog))
        classes[node_id] = node_class
        if node_class.is_output and (targets is None or _is_target(node_id, targets)):
            outputs.append(node_id)
    return classes, outputs


def _is_target(node_id: str, targets: object) -> bool:
    if isinstance(targets, str | list | tuple | dict):
        return node_id in targets
    raise Malformed(
        Problem(
            Code.TARGETS_NOT_A_LIST,
            "partial_execution_targets is not a list of node ids",
            given=targets,
            hint='Send a list of ids of output nodes, such as ["9"], or leave it out.',
        )
    )


def _class_type(node_id: str, node: object, catalog: NodeCatalog) -> object:
    """Return the class type of a node, known or not."""
    if not isinstance(node, dict):
        # Older releases look for the name in a text or a list as they would in an object.
        is_read = not catalog.rules.names_missing_class
        if is_read and isinstance(node, str | list) and "class_type" not in node:
            raise Malformed(_no_class_type(node_id, {}, catalog))
        raise node_not_an_object(node_id, node)
    if "class_type" not in node:
        raise Malformed(_no_class_type(node_id, node, catalog))
    check_class_type(node_id, node["class_type"])
    class_type: object = node["class_type"]
    return class_type


def _no_class_type(node_id: str, node: Mapping[str, Any], catalog: NodeCatalog) -> Problem:
    if not catalog.rules.names_missing_class:
        return Problem(
            Code.INVALID_PROMPT,
            "Cannot execute because a node is missing the class_type property.",
            details=f"Node ID '#{node_id}'",
            node_id=node_id,
        )
    title = _meta(node_id, node).get("title")
    return Problem(
        Code.MISSING_NODE_TYPE,
        f"Node '{title or f'ID #{node_id}'}' has no class_type. "
        "The workflow may be corrupted or a custom node is missing.",
        details=f"Node ID '#{node_id}'",
        extra_info={"node_id": node_id, "class_type": None, "node_title": title},
        node_id=node_id,
    )


def _unknown_class(node_id: str, node: Mapping[str, Any], catalog: NodeCatalog) -> Problem:
    class_type = node["class_type"]
    if not catalog.rules.names_missing_class:
        return Problem(
            Code.INVALID_PROMPT,
            f"Cannot execute because node {class_type} does not exist.",
            details=f"Node ID '#{node_id}'",
            node_id=node_id,
            class_type=str(class_type),
            given=class_type,
        )
    title = _meta(node_id, node).get("title", class_type)
    return Problem(
        Code.MISSING_NODE_TYPE,
        f"Node '{title}' not found. The custom node may not be installed.",
        details=f"Node ID '#{node_id}'",
        extra_info={"node_id": node_id, "class_type": class_type, "node_title": title},
        node_id=node_id,
        class_type=str(class_type),
        given=class_type,
    )


def _meta(node_id: str, node: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = node.get("_meta", {})
    if isinstance(meta, dict):
        return meta
    raise malformed_node(
        node_id,
        Code.META_NOT_AN_OBJECT,
        f"its _meta is not a JSON object but {type(meta).__name__}",
        'Write "_meta": {"title": ...}, or leave it out.',
    )
