"""Flatten subgraphs: each instance becomes a scope of its own, whose nodes are called `outer:inner`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from comfyserve.workflow.editor import Definition, Graph, Node
from comfyserve.workflow.problems import Code, Problem

MAX_NODES: Final = 200_000
"""Nodes that one workflow may become; nested subgraphs can multiply without end."""
MAX_DEPTH: Final = 64
"""Subgraphs that may be nested."""


@dataclass(slots=True, eq=False)
class Scope:
    """One occurrence of a graph: the root, or the inside of one subgraph instance."""

    prefix: str
    """What goes before a node's own id: `""`, `"7:"`, `"7:3:"`."""
    graph: Graph
    instance: Node | None = None
    parent: "Scope | None" = None
    depth: int = 0
    inner: dict[int, "Scope"] = field(default_factory=dict)
    """Scopes of the instances in this graph, by the instance's identity."""

    def path(self, node: Node) -> str:
        """Return the id of a node in the prompt."""
        return self.prefix + node.id


class Unbounded(Exception):
    """Expanding would not end, or not in reasonable space."""

    def __init__(self, problem: Problem) -> None:
        """Say it as the problem that the user gets."""
        super().__init__(problem.message)
        self.problem = problem


def expand(root: Graph, *, inactive_hides: bool) -> list[Scope]:
    """Return all scopes, the root first. `inactive_hides`: see `FrontendRules`.

    Raises `Unbounded` before anything large is built.
    """
    top = Scope("", root)
    scopes, pending, count = [top], [top], len(root.nodes)
    while pending:
        scope = pending.pop()
        for node in scope.graph.nodes:
            if node.definition is None or (
                inactive_hides and scope.parent is None and not node.is_active
            ):
                continue
            count += len(node.definition.graph.nodes) + 1
            if count > MAX_NODES:
                raise Unbounded(_too_many())
            inner = _enter(scope, node, node.definition)
            scopes.append(inner)
            pending.append(inner)
    return scopes


def _enter(scope: Scope, node: Node, definition: Definition) -> Scope:
    if any(each.definition is definition for each in _instances(scope)):
        raise Unbounded(_circle(scope, node, definition))
    if scope.depth >= MAX_DEPTH:
        raise Unbounded(_too_deep(scope, node))
    inner = Scope(f"{scope.path(node)}:", definition.graph, node, scope, scope.depth + 1)
    scope.inner[id(node)] = inner
    return inner


def _instances(scope: Scope) -> Iterator[Node]:
    """Go through the instances that a scope is inside of."""
    at: Scope | None = scope
    while at is not None and at.instance is not None:
        yield at.instance
        at = at.parent


def _too_many() -> Problem:
    return Problem(
        Code.WORKFLOW_TOO_LARGE,
        f"The workflow becomes more than {MAX_NODES} nodes once its subgraphs are expanded.",
        allowed=f"at most {MAX_NODES} nodes",
        hint="Nest fewer subgraphs in each other, or split the workflow.",
    )


def _too_deep(scope: Scope, node: Node) -> Problem:
    return Problem(
        Code.WORKFLOW_TOO_LARGE,
        f"Subgraphs are nested deeper than {MAX_DEPTH} levels.",
        node_id=scope.path(node),
        node_title=node.title,
        allowed=f"at most {MAX_DEPTH} levels",
        hint="Nest fewer subgraphs in each other.",
    )


def _circle(scope: Scope, node: Node, definition: Definition) -> Problem:
    return Problem(
        Code.SUBGRAPH_CIRCLE,
        f"The subgraph {definition.name!r} contains itself.",
        node_id=scope.path(node),
        node_title=node.title,
        class_type=node.type,
        hint="Remove the inner instance of the subgraph.",
    )
