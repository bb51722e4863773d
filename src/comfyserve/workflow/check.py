"""`check`: all that can be said about a workflow in one answer, the same at every door."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.flavours import Flavour
from comfyserve.workflow.interface import Interface, interface
from comfyserve.workflow.interface import to_json as interface_json
from comfyserve.workflow.plain import plain
from comfyserve.workflow.prepare import Prepared, prepare_file
from comfyserve.workflow.problems import Problem, shortened
from comfyserve.workflow.requirements import Requirements, requirements
from comfyserve.workflow.validate import Verdict

MAX_PROBLEMS: Final = 2_000
"""Problems that an answer holds; a file can be wrong in as many places as it has nodes."""
_MAX_CHARACTERS: Final = 4_000_000
"""... and their length together: a title can be as long as the file, and stand in each of them."""
_LONGEST: Final = 2_000


@dataclass(frozen=True, slots=True)
class Check:
    """A workflow, prepared, with what it needs and what it takes and gives."""

    prepared: Prepared
    requirements: Requirements
    interface: Interface

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was found on the way, and what the interface names that is not there."""
        return self.prepared.problems + self.interface.problems

    def to_json(self) -> dict[str, Any]:
        """Return the check as the public API and `--json` show it; strict JSON."""
        shown: dict[str, Any] = plain(
            {
                **summary_json(self.prepared),
                **problems_json(self.problems),
                "prompt": self.prepared.prompt or None,
                "requirements": self.requirements.to_json(),
                "interface": interface_json(self.interface),
            }
        )
        return shown


def check(data: bytes, catalog: NodeCatalog, *, flavour: Flavour = Flavour.NEW) -> Check:
    """Look at the bytes of any file that `prepare_file` takes. Never raises on user data."""
    return check_prepared(prepare_file(data, catalog, flavour=flavour), catalog)


def check_prepared(prepared: Prepared, catalog: NodeCatalog) -> Check:
    """Look at a workflow that was prepared with that catalog."""
    return Check(prepared, requirements(prepared, catalog), interface(prepared, catalog))


def summary_json(prepared: Prepared) -> dict[str, Any]:
    """Return what the file is and what ComfyUI would say to it."""
    return {
        "format": prepared.format.value if prepared.format else None,
        "container": prepared.container.value if prepared.container else None,
        "flavour": prepared.flavour.value,
        "verdict": None if prepared.verdict is None else _verdict_json(prepared.verdict),
    }


def problems_json(problems: Sequence[Problem]) -> dict[str, Any]:
    """Return the problems, and how many of them an answer leaves out."""
    listed: list[dict[str, Any]] = []
    room = _MAX_CHARACTERS
    for problem in problems[:MAX_PROBLEMS]:
        shown = plain(_bounded(problem.to_json()))
        room -= len(json.dumps(shown))
        if room < 0:
            break
        listed.append(shown)
    return {"problems": listed, "problems_left_out": len(problems) - len(listed)}


def _bounded(problem: dict[str, Any]) -> dict[str, Any]:
    return {
        key: shortened(value, _LONGEST) if isinstance(value, str) else value
        for key, value in problem.items()
    }


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "ok": verdict.ok,
        "partial": verdict.is_partial,
        "outputs": list(verdict.outputs),
        "undecided": list(verdict.undecided),
    }
