"""Flatten subgraphs: each instance becomes a scope of its own, whose nodes are called `outer:inner`."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from comfyserve.workflow.bounds import (
    MAX_DEPTH,
    MAX_NODES,
    MAX_PATHS,
    Unbounded,
    brief,
    too_large,
)
from comfyserve.workflow.editor import Definition, Graph, Node
from comfyserve.workflow.problems import Code, Problem


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


def expand(root: Graph, *, inactive_hides: bool) -> list[Scope]:
    """Return all scopes, the root first. `inactive_hides`: see `FrontendRules`.

    Raises `Unbounded` before anything large is built.
    """
    if len(root.nodes) > MAX_NODES:
        raise Unbounded(too_large(f"{len(root.nodes)} nodes"))
    top = Scope("", root)
    scopes, pending = [top], [top]
    count, characters = len(root.nodes), 0
    while pending:
        scope = pending.pop()
        for node in scope.graph.nodes:
            if node.definition is None or (
                inactive_hides and scope.parent is None and not node.is_active
            ):
                continue
            inner = _enter(scope, node, node.definition)
            inside = len(node.definition.graph.nodes)
            count += inside + 1
            characters += inside * len(inner.prefix)
            if count > MAX_NODES or characters > MAX_PATHS:
                raise Unbounded(
                    too_large(f"more than {MAX_NODES} nodes with its subgraphs expanded")
                )
            scopes.append(inner)
            pending.append(inner)
    return scopes


def _enter(scope: Scope, node: Node, definition: Definition) -> Scope:
    if any(each.definition is definition for each in _instances(scope)):
        raise Unbounded(_circle(scope, node, definition))
    if scope.depth >= MAX_DEPTH:
        what = f"subgraphs nested deeper than {MAX_DEPTH} levels"
        raise Unbounded(too_large(what, scope.path(node), node.title))
    inner = Scope(f"{scope.path(node)}:", definition.graph, node, scope, scope.depth + 1)
    scope.inner[id(node)] = inner
    return inner


def _instances(scope: Scope) -> Iterator[Node]:
    """Go through the instances that a scope is inside of."""
    at: Scope | None = scope
    while at is not None and at.instance is not None:
        yield at.instance
        at = at.parent


def _circle(scope: Scope, node: Node, definition: Definition) -> Problem:
    return Problem(
        Code.SUBGRAPH_CIRCLE,
        f"The subgraph {brief(definition.name)} contains itself.",
        node_id=scope.path(node),
        node_title=node.title,
        class_type=node.type,
        hint="Remove the inner instance of the subgraph.",
    )
