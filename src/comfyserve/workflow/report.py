"""What the conversion has to say: where it had to assume something, and what it left out."""

from dataclasses import dataclass, field
from typing import Final

from comfyserve.workflow.bounds import brief
from comfyserve.workflow.editor import Node
from comfyserve.workflow.problems import Code, Problem, Severity
from comfyserve.workflow.resolve import Break

MAX_PROBLEMS: Final = 500
"""Warnings that one conversion gives; a file can be wrong in as many places as it has nodes."""
_MAX_NAMES: Final = 30


@dataclass(slots=True)
class Report:
    """Collects the problems of one conversion."""

    problems: list[Problem] = field(default_factory=list)
    left_unsaid: int = 0

    def add(self, problem: Problem) -> None:
        """Add a problem, or count it once there are too many."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        else:
            self.left_unsaid += 1

    def part_left_out(self, sentence: str) -> None:
        """Say that something in the file made no sense."""
        self.add(
            Problem(
                Code.PART_LEFT_OUT,
                sentence,
                hint="Open the workflow in ComfyUI and export it again.",
                severity=Severity.WARNING,
            )
        )

    def unknown_class(self, node: Node, node_id: str) -> None:
        """Say that the catalog does not have a class, and what was made of its node."""
        names = [brief(widget.name) for widget in node.widgets[:_MAX_NAMES]]
        named = ", ".join(names) or "none"
        self.add(
            Problem(
                Code.UNKNOWN_CLASS,
                f"The node class {brief(node.type)} is not in this deployment's catalog.",
                details=f"It was kept as it is, with the values that the file names: {named}.",
                node_id=node_id,
                node_title=node.title,
                class_type=node.type,
                given=node.type,
                hint="Install the custom node pack that has it, or remove the node.",
                severity=Severity.WARNING,
            )
        )

    def link_dropped(self, node: Node, node_id: str, slot: str, link: str, why: Break) -> None:
        """Say that a connection of the file leads nowhere."""
        self.add(
            Problem(
                Code.LINK_DROPPED,
                f"The connection to {brief(slot)} was dropped: {why.value}.",
                details=f"link {link}",
                node_id=node_id,
                node_title=node.title,
                class_type=node.type,
                input_name=slot,
                given=link,
                hint="Connect the input again in ComfyUI and export the workflow.",
                severity=Severity.WARNING,
            )
        )

    def duplicate_id(self, node: Node, node_id: str) -> None:
        """Say that two nodes have one id, so that only one of them runs."""
        self.add(
            Problem(
                Code.DUPLICATE_NODE_ID,
                f"Two nodes have the id {brief(node_id)}; this one was left out.",
                node_id=node_id,
                node_title=node.title,
                class_type=node.type,
                hint="Copy the node in ComfyUI and delete this one.",
                severity=Severity.WARNING,
            )
        )

    def needs_editor(self, node: Node, node_id: str, input_name: str) -> None:
        """Say that only the editor can make the value of an input."""
        self.add(
            Problem(
                Code.NEEDS_EDITOR,
                f"The value of {brief(input_name)} is made in the browser and is not in the file.",
                node_id=node_id,
                node_title=node.title,
                class_type=node.type,
                input_name=input_name,
                hint="Load the picture or recording with a file node, or use the API export.",
                severity=Severity.WARNING,
            )
        )
