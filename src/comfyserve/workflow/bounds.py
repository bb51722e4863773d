"""How much a workflow may ask for before the answer is a problem instead of a prompt.

Files come from anywhere. A small one can describe a large graph: subgraphs in subgraphs, instances with
thousands of inputs. Whatever could grow beyond the size of the file spends from a `Budget`.
"""

from dataclasses import dataclass
from typing import Final

from comfyserve.workflow.problems import Code, Problem

MAX_NODES: Final = 100_000
"""Nodes that a workflow may have or become; ComfyUI's editor stops at 10,000 a graph."""
MAX_DEPTH: Final = 64
"""Subgraphs that may be nested."""
MAX_PIECES: Final = 500_000
"""Slots and widgets that loading may make; a large workflow of today has some 10,000."""
MAX_STEPS: Final = 5_000_000
"""Single steps of searching; a large workflow of today takes some 10,000."""
MAX_PATHS: Final = 50_000_000
"""Characters of all node ids of the prompt together."""
_MAX_NAME: Final = 100


class Unbounded(Exception):
    """The workflow asks for more than the bounds allow."""

    def __init__(self, problem: Problem) -> None:
        """Say it as the problem that the user gets."""
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class Budget:
    """What one conversion may still spend."""

    pieces: int = MAX_PIECES
    steps: int = MAX_STEPS

    def make(self, pieces: int) -> None:
        """Spend room. Raises `Unbounded` when there is none left."""
        self.pieces -= pieces
        if self.pieces < 0:
            raise Unbounded(too_large(f"more than {MAX_PIECES} slots and widgets"))

    def search(self, steps: int) -> None:
        """Spend time. Raises `Unbounded` when there is none left."""
        self.steps -= steps
        if self.steps < 0:
            raise Unbounded(too_large("more connections than can be followed in reasonable time"))


def too_large(what: str, node_id: str | None = None, title: str | None = None) -> Problem:
    """Return the problem of a workflow that has too much of something."""
    return Problem(
        Code.WORKFLOW_TOO_LARGE,
        f"The workflow has {what}.",
        node_id=node_id,
        node_title=title,
        allowed=f"at most {MAX_NODES} nodes, subgraphs {MAX_DEPTH} deep",
        hint="Use fewer subgraphs inside each other, or split the workflow.",
    )


def brief(name: str) -> str:
    """Quote a name of the file; one that is too long to be a name is cut."""
    return repr(name) if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]!r}..."
