"""The walk from an output up its links, checking each node once, in ComfyUI's order.

ComfyUI recurses from node to node. Here each node is a generator that yields the links it wants looked at, and
a loop keeps the stack: a chain of any length takes no Python stack, and the depth at which ComfyUI gives up
can be told.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfyserve.workflow import checks
from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.custom_checks import Check, Undecided, given_to, run_check
from comfyserve.workflow.problems import Code, Problem
from comfyserve.workflow.specs import InputSpec, NodeClass

ENGINE_ERRORS = (
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError),
    RecursionError,
)
"""What ComfyUI runs into on odd input, and reports as an exception during validation."""
MAX_FAULTY = 2_000
"""Nodes with problems of their own that a walk collects before it gives up."""
MAX_DEPTH = 980
"""Nodes in a row that ComfyUI's recursive walk survives, within a few dozen."""
_LONG_CYCLE = 200


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What the walk found out about one node."""

    is_valid: bool
    problems: tuple[Problem, ...] = ()


_VALID = NodeResult(is_valid=True)


class TooManyFaults(Exception):
    """So much is wrong that the rest is not looked at."""


_Visit = Generator[str, NodeResult, NodeResult]


class Walk:
    """The nodes of one prompt as far as they were looked at."""

    def __init__(
        self,
        prompt: Mapping[str, Any],
        classes: Mapping[str, NodeClass],
        catalog: NodeCatalog,
    ) -> None:
        """Start with nothing looked at; `classes`: that of each node, by its id."""
        self.results: dict[str, NodeResult] = {}
        """By node id."""
        self.order: list[str] = []
        """The ids in `results`, in ComfyUI's order."""
        self.coerced: dict[str, dict[str, Any]] = {}
        """Inputs by node id, where the conversion to the declared types changed any."""
        self.looked_at: dict[str, tuple[Mapping[str, Any], tuple[InputSpec, ...]]] = {}
        """By node id, what each node was given and what it declares."""
        self.undecided: list[str] = []
        self._prompt = prompt
        self._catalog = catalog
        self._rules = catalog.rules
        self._classes = classes
        self._faulty = 0

    def visit(self, output_id: str) -> NodeResult:
        """Look at an output and all that it needs. Raises TooManyFaults."""
        if output_id not in self.results:
            try:
                self._climb(output_id)
            except ENGINE_ERRORS as error:
                self._keep(output_id, _raised(error))
        return self.results[output_id]

    def _keep(self, node_id: str, result: NodeResult) -> NodeResult:
        is_new = node_id not in self.results
        self.results[node_id] = result
        if is_new:
            self.order.append(node_id)
            self._faulty += bool(result.problems)
            if self._faulty > MAX_FAULTY:
                raise TooManyFaults
        return result

    def _climb(self, output_id: str) -> None:
        stack: dict[str, _Visit] = {output_id: self._node(output_id)}
        answer: NodeResult | None = None
        failure: Exception | None = None
        while stack:
            node_id, visit = next(reversed(stack.items()))
            try:
                if failure is not None:
                    source = visit.throw(failure)
                else:
                    source = next(visit) if answer is None else visit.send(answer)
            except StopIteration as stop:
                failure, answer = None, self._settled(node_id, stop.value)
                del stack[node_id]
            except ENGINE_ERRORS as error:
                if len(stack) == 1:
                    raise
                failure, answer = error, None
                del stack[node_id]
            else:
                failure, answer = None, self._answer(source, stack)
                if answer is None:
                    if len(stack) >= MAX_DEPTH:
                        failure = RecursionError("maximum recursion depth exceeded")
                    else:
                        stack[source] = self._node(source)

    def _answer(self, source: str, stack: Mapping[str, _Visit]) -> NodeResult | None:
        """Return what is known about a node, or `None` where it has to be visited."""
        if source in stack and source not in self.results:
            return self._cycle(source, stack)
        return self.results.get(source)

    def _settled(self, node_id: str, result: NodeResult) -> NodeResult:
        """Keep the result of a node, beside what a cycle through it may have left there."""
        before = self.results.get(node_id)
        if before is not None:
            known = before.problems
            fresh = tuple(problem for problem in result.problems if problem not in known)
            result = NodeResult(before.is_valid and result.is_valid, known + fresh)
        return self._keep(node_id, result)

    def _cycle(self, source: str, stack: Mapping[str, _Visit]) -> NodeResult:
        """Blame each node of a cycle for it."""
        if not self._rules.finds_cycles:
            # Older releases recurse until Python stops them; nothing is said of the nodes themselves.
            return NodeResult(is_valid=False)
        path = list(stack)
        nodes = path[path.index(source) :]
        shown = [*nodes, source]
        if len(shown) > _LONG_CYCLE:
            shown = [*shown[: _LONG_CYCLE // 2], *shown[-_LONG_CYCLE // 2 :]]
        details = " -> ".join(f"{node_id} ({self._classes[node_id].name})" for node_id in shown)
        for node_id in nodes:
            problem = Problem(
                Code.DEPENDENCY_CYCLE,
                "Dependency cycle detected",
                details=details,
                extra_info={"node_id": node_id, "cycle_nodes": nodes},
            )
            self._keep(node_id, NodeResult(is_valid=False, problems=(problem,)))
        return self.results[source]

    def _node(self, node_id: str) -> _Visit:
        """Check one node: its inputs in declared order, then what its class checks itself."""
        node = self._open(node_id)
        for spec in node.specs:
            if spec.name not in node.given:
                if spec.section == "required":
                    node.problems.append(checks.missing(spec.name, is_nested=node.is_nested))
                continue
            value = node.given[spec.name]
            if not isinstance(value, list):
                self._literal(node, spec, value)
            elif self._is_followed(node, spec, value):
                source = self.results.get(value[0]) or (yield from self._follow(spec, value))
                node.is_valid &= source.is_valid
        if node.values is not node.given:
            self.coerced[node_id] = dict(node.values)
        if node.check is not None:
            node.problems += self._own_check(node, node.check)
        if node.is_valid and not node.problems:
            return _VALID
        return NodeResult(node.is_valid and not node.problems, tuple(node.problems))

    def _open(self, node_id: str) -> "_Node":
        """Gather what is needed to check a node."""
        given = self._prompt[node_id]["inputs"]
        node_class = self._classes[node_id]
        check = self._catalog.check(node_class)
        specs, is_nested = node_class.inputs, False
        if node_class.is_dynamic and self._rules.expands_inputs:
            expansion = self._catalog.expand(node_class, given)
            specs, is_nested = expansion.specs, expansion.is_nested
        if isinstance(given, dict):
            self.looked_at[node_id] = (given, specs)
        return _Node(node_id, node_class, check, specs, is_nested, given, given)

    def _literal(self, node: "_Node", spec: InputSpec, value: object) -> None:
        """Check a value that is no link, and keep it as ComfyUI converts it."""
        check = node.check
        is_left = check is not None and (check.takes_all or spec.name in check.names)
        new, problem = checks.literal(spec, value, self._rules, is_left=is_left)
        if problem is not None:
            node.problems.append(problem)
        if new is not value:
            if node.values is node.given:
                node.values = dict(node.given)
            node.values[spec.name] = new

    def _is_followed(self, node: "_Node", spec: InputSpec, value: list[Any]) -> bool:
        """Check a link itself; only a good one is followed."""
        if len(value) != 2:
            node.problems.append(checks.bad_link(spec, value))
            return False
        source_id, slot = value
        received = checks.output_type(self._classes[source_id], slot)
        node.types[spec.name] = received
        if received == spec.type or checks.types_fit(received, spec, self._rules):
            return True
        if node.check is not None and node.check.takes_types:
            return True
        node.problems.append(checks.type_mismatch(spec, received, value))
        return False

    def _follow(self, spec: InputSpec, value: list[Any]) -> Generator[str, NodeResult, NodeResult]:
        """Have the source of a link looked at; if that raises, it is the source's problem."""
        try:
            return (yield value[0])
        except ENGINE_ERRORS as error:
            problem = Problem(
                Code.EXCEPTION_DURING_INNER_VALIDATION,
                "Exception when validating inner node",
                details=str(error),
                extra_info={
                    "input_name": spec.name,
                    "input_config": spec.config,
                    "exception_message": str(error),
                    "exception_type": type(error).__qualname__,
                    "traceback": [],
                    "linked_node": value,
                },
            )
            return self._keep(value[0], NodeResult(is_valid=False, problems=(problem,)))

    def _own_check(self, node: "_Node", check: Check) -> list[Problem]:
        """Have the class judge its inputs; ComfyUI blames each input that the function was given."""
        given = given_to(check, node.specs, node.values, node.types, self._catalog.input_files)
        try:
            said = run_check(check, node.cls, given)
        except Undecided:
            self.undecided.append(node.id)
            return []
        if said is True:
            return []
        blamed = [*given.values, "input_types"] if check.takes_types else list(given.values)
        return [
            Problem(
                Code.CUSTOM_VALIDATION_FAILED,
                "Custom validation failed for node",
                details=f"{name} - {said}" if said else name,
                extra_info={"input_name": name},
                input_name=name,
                given=given.values.get(name),
            )
            for name in blamed
        ]


@dataclass(slots=True)
class _Node:
    """One node while it is looked at."""

    id: str
    cls: NodeClass
    check: Check | None
    specs: tuple[InputSpec, ...]
    is_nested: bool
    given: Any
    """Its inputs; mostly an object."""
    values: Any
    """The same with the converted values."""
    problems: list[Problem] = field(default_factory=list)
    types: dict[str, Any] = field(default_factory=dict)
    """The types that its links bring, by input."""
    is_valid: bool = True
    """Whether all its sources are valid."""


def _raised(error: Exception) -> NodeResult:
    problem = Problem(
        Code.EXCEPTION_DURING_VALIDATION,
        "Exception when validating node",
        details=str(error),
        extra_info={"exception_type": type(error).__qualname__, "traceback": []},
    )
    return NodeResult(is_valid=False, problems=(problem,))
