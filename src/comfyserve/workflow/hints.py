"""What ComfyUI does not say about a problem: the title, look-alikes, what is allowed, how to mend it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.input_files import upload_kind
from comfyserve.workflow.nearest import Nearest
from comfyserve.workflow.problems import Code, NodeProblems, Problem, shortened
from comfyserve.workflow.remarks import title_of
from comfyserve.workflow.specs import LINK_ONLY, InputSpec
from comfyserve.workflow.walk import MAX_DEPTH

_MOST_EXPLAINED = 1_000
_SHOWN_CHOICES = 8


class Hinter:
    """Explains the problems of one prompt, within a budget: the rest stay as ComfyUI words them."""

    def __init__(self, catalog: NodeCatalog) -> None:
        """Start with the whole budget."""
        self._catalog = catalog
        self.nearest = Nearest()
        self._left = _MOST_EXPLAINED

    def explain_node(self, node: NodeProblems, prompt: Mapping[str, Any]) -> NodeProblems:
        """Explain all problems of one node."""
        found = prompt[node.node_id]
        problems = []
        for problem in node.problems:
            about = replace(
                problem,
                node_id=node.node_id,
                node_title=title_of(found),
                class_type=node.class_type,
            )
            problems.append(self._explain(about, found, prompt) if self._left > 0 else about)
            self._left -= 1
        return replace(node, problems=tuple(problems))

    def explain(
        self, problem: Problem, prompt: Mapping[str, Any], nodes: Sequence[NodeProblems] = ()
    ) -> Problem:
        """Explain the problem of a whole prompt; `nodes`: those of its nodes, explained."""
        if problem.code in (Code.INVALID_PROMPT, Code.MISSING_NODE_TYPE):
            return self._class(problem, prompt)
        if problem.code is Code.PROMPT_OUTPUTS_FAILED_VALIDATION:
            return replace(problem, hint=summary(nodes))
        if problem.code is Code.PROMPT_NO_OUTPUTS:
            hint = "Add a node that saves or shows something, such as SaveImage."
            return replace(problem, hint=hint)
        return problem

    def _explain(
        self, problem: Problem, node: Mapping[str, Any], prompt: Mapping[str, Any]
    ) -> Problem:
        if problem.code in _EXCEPTIONS:
            return replace(problem, hint=self._exception(problem, node, prompt))
        if problem.code is Code.DEPENDENCY_CYCLE:
            return replace(problem, hint=_CUT_CYCLE)
        spec = self._spec(problem, node)
        explain = _EXPLAIN.get(problem.code)
        if spec is None or explain is None:
            return problem
        allowed, nearest, hint = explain(self, spec, problem)
        return replace(problem, allowed=allowed, nearest=nearest, hint=hint)

    def _exception(
        self, problem: Problem, node: Mapping[str, Any], prompt: Mapping[str, Any]
    ) -> str:
        """Find what ComfyUI stumbled over: it shows no more than Python's words."""
        if "recursion" in problem.details:
            return f"ComfyUI gives up after {MAX_DEPTH} nodes in a row: split the workflow."
        inputs = node.get("inputs")
        if not isinstance(inputs, Mapping):
            return "Give the node its inputs as an object: a value or a link per input name."
        for name, value in inputs.items():
            if isinstance(value, list) and len(value) == 2:
                fault = self._bad_link(name, value, prompt)
                if fault:
                    return fault
        return f"Check the inputs of this node against what {problem.class_type} declares."

    def _bad_link(self, name: str, link: list[Any], prompt: Mapping[str, Any]) -> str:
        source_id, slot = link
        if not isinstance(source_id, str) or source_id not in prompt:
            shown = shortened(repr(source_id), 100)
            return f"'{name}' is linked to node {shown}, which is not there: link an existing one."
        source = self._catalog.get(prompt[source_id]["class_type"])
        count = 0 if source is None else len(source.output_types)
        if isinstance(slot, int) and -count <= slot < count:
            return ""
        shown = shortened(repr(slot), 100)
        return f"'{name}' takes output {shown} of node {source_id}, which has {count}, from 0 on."

    def _class(self, problem: Problem, prompt: Mapping[str, Any]) -> Problem:
        title = title_of(prompt.get(problem.node_id or ""))
        unknown = [
            str(node["class_type"])
            for node in prompt.values()
            if isinstance(node, Mapping)
            and isinstance(node.get("class_type"), str)
            and node["class_type"] not in self._catalog
        ]
        if problem.class_type is None:
            hint = 'Give the node a class: "class_type": "KSampler".'
            return replace(problem, node_title=title, hint=hint)
        nearest = self.nearest.of(problem.class_type, self._catalog.names)
        hint = "Install the custom node pack that brings this class, or use another one."
        if nearest:
            hint = f"Did you mean '{nearest[0]}'? Otherwise install the node pack that brings it."
        others = sorted(set(unknown) - {problem.class_type})
        if others:
            more = f" and {len(others) - 10} more" if len(others) > 10 else ""
            hint += f" Also unknown: {', '.join(others[:10])}{more}."
        return replace(problem, node_title=title, nearest=nearest, hint=shortened(hint, 1000))

    def _spec(self, problem: Problem, node: Mapping[str, Any]) -> InputSpec | None:
        node_class = self._catalog.get(problem.class_type)
        spec = None if node_class is None else node_class.input(problem.input_name or "")
        if spec is None and node_class is not None and node_class.is_dynamic:
            specs = self._catalog.expand(node_class, node["inputs"]).specs
            return next((each for each in specs if each.name == problem.input_name), None)
        return spec

    def look_alikes(self, given: object, spec: InputSpec) -> tuple[str, ...]:
        """Return the choices of a combo that look like the given value."""
        return self.nearest.of(given, spec.choices or ())

    def files_like(self, given: object, spec: InputSpec) -> tuple[str, ...]:
        """Return the input files that look like the given name."""
        return self.nearest.of(given, spec.choices or self._catalog.input_files or ())


_Explained = tuple[str, tuple[str, ...], str]


def _explain_missing(_hinter: Hinter, spec: InputSpec, _problem: Problem) -> _Explained:
    allowed = _allowed(spec)
    if spec.type in LINK_ONLY:
        return allowed, (), f"Link '{spec.name}' to an output of type {spec.type}."
    default = spec.options.get("default")
    like = f", such as its default {default!r}" if default is not None else ""
    return allowed, (), shortened(f"Give '{spec.name}' a value{like}.", 300)


def _explain_link(_hinter: Hinter, spec: InputSpec, _problem: Problem) -> _Explained:
    hint = 'Write a link as [node id, output number]; wrap a list value in {"__value__": [...]}.'
    return _allowed(spec), (), hint


def _explain_mismatch(_hinter: Hinter, spec: InputSpec, problem: Problem) -> _Explained:
    hint = f"Link '{spec.name}' to an output of type {_type(spec)} instead of {problem.given}."
    return _allowed(spec), (), shortened(hint, 300)


def _explain_type(_hinter: Hinter, spec: InputSpec, _problem: Problem) -> _Explained:
    return _allowed(spec), (), f"Give '{spec.name}' {_allowed(spec)}."


def _explain_range(_hinter: Hinter, spec: InputSpec, _problem: Problem) -> _Explained:
    return _allowed(spec), (), f"Give '{spec.name}' {_allowed(spec)}."


def _explain_choice(hinter: Hinter, spec: InputSpec, problem: Problem) -> _Explained:
    nearest = hinter.look_alikes(problem.given, spec)
    if nearest:
        return _allowed(spec), nearest, f"Did you mean '{nearest[0]}'?"
    if not spec.choices:
        return _allowed(spec), (), f"Nothing can be chosen for '{spec.name}': no file is installed."
    return _allowed(spec), (), f"Choose {_allowed(spec)} for '{spec.name}'."


def _explain_file(hinter: Hinter, spec: InputSpec, problem: Problem) -> _Explained:
    nearest = hinter.files_like(problem.given, spec)
    kind = upload_kind(spec) or "input"
    hint = f"Upload the {kind} file first."
    if nearest:
        hint = f"Did you mean '{nearest[0]}'? Otherwise upload the file first."
    return f"the name of an uploaded {kind} file", nearest, hint


_EXPLAIN: Mapping[Code, Callable[[Hinter, InputSpec, Problem], _Explained]] = {
    Code.REQUIRED_INPUT_MISSING: _explain_missing,
    Code.BAD_LINKED_INPUT: _explain_link,
    Code.RETURN_TYPE_MISMATCH: _explain_mismatch,
    Code.INVALID_INPUT_TYPE: _explain_type,
    Code.VALUE_SMALLER_THAN_MIN: _explain_range,
    Code.VALUE_BIGGER_THAN_MAX: _explain_range,
    Code.VALUE_NOT_IN_LIST: _explain_choice,
    Code.CUSTOM_VALIDATION_FAILED: _explain_file,
}
_EXCEPTIONS = {Code.EXCEPTION_DURING_VALIDATION, Code.EXCEPTION_DURING_INNER_VALIDATION}
_CUT_CYCLE = "Cut one of the links that lead back into the cycle."


def _allowed(spec: InputSpec) -> str:
    """Say in words what an input takes."""
    if spec.choices is not None:
        shown = ", ".join(repr(choice) for choice in spec.choices[:_SHOWN_CHOICES])
        more = len(spec.choices) - _SHOWN_CHOICES
        listed = f"one of {shown}{f' and {more} more' if more > 0 else ''}"
        return shortened(listed, 500) if spec.choices else "nothing: the list is empty"
    if spec.type in ("INT", "FLOAT"):
        kind = "a whole number" if spec.type == "INT" else "a number"
        if spec.minimum is not None and spec.maximum is not None:
            return f"{kind} from {spec.minimum} to {spec.maximum}"
        return kind
    words = {"STRING": "a text", "BOOLEAN": "true or false"}
    return words.get(spec.type, f"a link to an output of type {_type(spec)}")


def _type(spec: InputSpec) -> str:
    return shortened(spec.type, 200)


def summary(nodes: Sequence[NodeProblems]) -> str:
    """Say where to look: the first problem with its hint."""
    first = next((problem for node in nodes for problem in node.problems), None)
    if first is not None:
        where = f"Node {first.node_id} ({first.node_title or first.class_type})"
        return shortened(f"{where}: {first.message} {first.details}. {first.hint}", 1000)
    return f"The workflow has a cycle. {_CUT_CYCLE}"
