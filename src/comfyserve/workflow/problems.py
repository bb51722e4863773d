"""`Problem`: one finding of the validator, and how it reads as ComfyUI's JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

HINT_KEY = "comfyserve"
"""The key that holds what ComfyUI does not say; its clients ignore it."""

_MAX_DEPTH = 60
_MAX_ITEMS = 20_000
_MAX_NODES = 2_000
_MAX_OUTPUTS = 200


class Severity(StrEnum):
    """Whether a problem keeps something from running."""

    ERROR = "error"
    WARNING = "warning"


class Code(StrEnum):
    """All codes: ComfyUI's error types under their own names, then ours."""

    INVALID_PROMPT = "invalid_prompt"
    MISSING_NODE_TYPE = "missing_node_type"
    PROMPT_NO_OUTPUTS = "prompt_no_outputs"
    PROMPT_OUTPUTS_FAILED_VALIDATION = "prompt_outputs_failed_validation"
    REQUIRED_INPUT_MISSING = "required_input_missing"
    BAD_LINKED_INPUT = "bad_linked_input"
    RETURN_TYPE_MISMATCH = "return_type_mismatch"
    INVALID_INPUT_TYPE = "invalid_input_type"
    VALUE_SMALLER_THAN_MIN = "value_smaller_than_min"
    VALUE_BIGGER_THAN_MAX = "value_bigger_than_max"
    VALUE_NOT_IN_LIST = "value_not_in_list"
    CUSTOM_VALIDATION_FAILED = "custom_validation_failed"
    DEPENDENCY_CYCLE = "dependency_cycle"
    EXCEPTION_DURING_VALIDATION = "exception_during_validation"
    EXCEPTION_DURING_INNER_VALIDATION = "exception_during_inner_validation"

    # ComfyUI answers these with a bare 500.
    PROMPT_NOT_AN_OBJECT = "prompt_not_an_object"
    NODE_NOT_AN_OBJECT = "node_not_an_object"
    CLASS_TYPE_NOT_A_NAME = "class_type_not_a_name"
    INPUTS_NOT_AN_OBJECT = "inputs_not_an_object"
    META_NOT_AN_OBJECT = "meta_not_an_object"
    REPLACEMENT_FAILED = "replacement_failed"
    TARGETS_NOT_A_LIST = "targets_not_a_list"

    # Warnings: ComfyUI accepts these and says nothing.
    OUTPUT_DROPPED = "output_dropped"
    DECIDED_BY_ENGINE = "decided_by_engine"
    UNKNOWN_INPUT = "unknown_input"
    VALUE_IN_PLACE_OF_LINK = "value_in_place_of_link"
    UNKNOWN_OPTION = "unknown_option"

    # An interface, and the values that are handed in by its names.
    INTERFACE_UNREADABLE = "interface_unreadable"
    PLACE_GONE = "place_gone"
    NO_SUCH_INPUT = "no_such_input"
    VALUE_MISSING = "value_missing"
    VALUE_REFUSED = "value_refused"

    # What was read, before there is a prompt: the body, the file, the UI workflow.
    NOT_A_WORKFLOW = "not_a_workflow"
    UNREADABLE_FILE = "unreadable_file"
    WORKFLOW_TOO_LARGE = "workflow_too_large"
    SUBGRAPH_CIRCLE = "subgraph_circle"

    # Warnings of the conversion: what was assumed or left out.
    UNKNOWN_CLASS = "unknown_class"
    LINK_DROPPED = "link_dropped"
    DUPLICATE_NODE_ID = "duplicate_node_id"
    PART_LEFT_OUT = "part_left_out"
    NEEDS_EDITOR = "needs_editor"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding: where, what, and how to mend it. `extra_info` is ComfyUI's own."""

    code: Code
    message: str
    details: str = ""
    extra_info: Mapping[str, Any] = field(default_factory=dict)
    node_id: str | None = None
    node_title: str | None = None
    class_type: str | None = None
    input_name: str | None = None
    given: Any = None
    allowed: str = ""
    """What would be right, in words."""
    nearest: tuple[str, ...] = ()
    """Allowed names that look like the given one, the closest first."""
    hint: str = ""
    """One sentence: how to mend it."""
    severity: Severity = Severity.ERROR

    def to_comfy(self) -> dict[str, Any]:
        """Return ComfyUI's error object with our hint beside it."""
        error: dict[str, Any] = {
            "type": self.code.value,
            "message": shortened(self.message),
            "details": shortened(self.details),
            "extra_info": {key: printable(value) for key, value in self.extra_info.items()},
        }
        if self.hint or self.nearest:
            error[HINT_KEY] = {
                "hint": self.hint,
                "nearest": list(self.nearest),
                "node_title": self.node_title,
            }
        return error

    def to_json(self) -> dict[str, Any]:
        """Return the problem as the public API and `--json` show it."""
        return {
            "code": self.code.value,
            "severity": self.severity.value,
            "node_id": self.node_id,
            "node_title": self.node_title,
            "class_type": self.class_type,
            "input": self.input_name,
            "message": shortened(self.message),
            "details": shortened(self.details),
            "given": printable(self.given),
            "allowed": self.allowed,
            "nearest": list(self.nearest),
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True)
class NodeProblems:
    """What is wrong with one node, and which outputs fall with it."""

    node_id: str
    class_type: str
    problems: tuple[Problem, ...]
    failed_outputs: Sequence[str]
    """The failed outputs of the prompt, in the order in which they were looked at."""
    first: int
    """Where in `failed_outputs` this node was found: ComfyUI blames it for all from there on."""

    @property
    def dependent_outputs(self) -> tuple[str, ...]:
        """ComfyUI's list of that name, cut off where it would swamp an answer."""
        return tuple(self.failed_outputs[self.first : self.first + _MAX_OUTPUTS])

    def to_comfy(self) -> dict[str, Any]:
        """Return the entry of ComfyUI's `node_errors`."""
        return {
            "errors": [problem.to_comfy() for problem in self.problems],
            "dependent_outputs": list(self.dependent_outputs),
            "class_type": self.class_type,
        }


def error_body(error: Problem, nodes: Sequence[NodeProblems] = ()) -> dict[str, Any]:
    """Return the body of ComfyUI's 400."""
    return {"error": error.to_comfy(), "node_errors": node_errors(nodes)}


def node_errors(nodes: Sequence[NodeProblems]) -> dict[str, Any]:
    """Return ComfyUI's object of that name; of thousands of bad nodes it holds the first ones."""
    return {node.node_id: node.to_comfy() for node in nodes[:_MAX_NODES]}


def shortened(text: str, limit: int = 20_000) -> str:
    """Cut a text that would swamp an answer."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def printable(value: object) -> object:
    """Return the value, or a placeholder where it is too deep or too large to be shown as JSON."""
    if isinstance(value, str):
        return shortened(value)
    if not isinstance(value, Mapping | list | tuple):
        return value
    items, depth, level = 0, 0, [value]
    while level:
        depth += 1
        children: list[Any] = []
        for each in level:
            children += each.values() if isinstance(each, Mapping) else each
        items += len(children)
        if depth > _MAX_DEPTH or items > _MAX_ITEMS:
            return "(too large to be shown)"
        level = [child for child in children if isinstance(child, Mapping | list | tuple)]
    return value
