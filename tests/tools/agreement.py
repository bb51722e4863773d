"""Compares our verdict with ComfyUI's: accept or reject, every word of the errors, outputs, converted values."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from comfyserve.workflow.problems import HINT_KEY
from comfyserve.workflow.validate import Verdict

Json: TypeAlias = Any

_CRASHES = {
    "prompt_not_an_object",
    "node_not_an_object",
    "class_type_not_a_name",
    "inputs_not_an_object",
    "meta_not_an_object",
    "replacement_failed",
    "targets_not_a_list",
}


@dataclass(slots=True)
class Score:
    """How often we agree, and what the differences are."""

    total: int = 0
    agreed: int = 0
    undecided: int = 0
    accepted: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def add(
        self, name: str, prompt: Json, ours: Verdict, theirs: Mapping[str, Json], *, is_old: bool
    ) -> None:
        """Compare one pair of verdicts."""
        self.total += 1
        self.accepted += bool(theirs.get("ok"))
        if "crash" in theirs:
            self.kinds["500"] += 1
        for node in (theirs.get("nodes") or {}).values():
            self.kinds.update(error["type"] for error in node["errors"])
        difference = compare(prompt, ours, theirs, is_old=is_old)
        if difference is None:
            self.agreed += 1
        elif ours.undecided:
            self.undecided += 1
        else:
            self.differences.append(f"{name}: {difference}")

    def __str__(self) -> str:
        found = ", ".join(f"{kind} {count}" for kind, count in sorted(self.kinds.items()))
        return (
            f"{self.agreed} of {self.total} verdicts agree, {self.undecided} left to the engine, "
            f"{len(self.differences)} differ; {self.accepted} accepted; {found}"
        )


def compare(
    prompt: Json,
    ours: Verdict,
    theirs: Mapping[str, Json],
    *,
    is_old: bool,
    is_ordered: bool = True,
) -> str | None:
    """Return how the verdicts differ, or `None`.

    `is_old`: the release recurses through a cycle until Python stops it; whom it blames then depends on the
    depth of its stack, so that only accept or reject and the outputs are compared.
    `is_ordered`: the engine kept its sets in order; a server as it is shows them in any order.
    """
    if "crash" in theirs:
        code = None if ours.error is None else ours.error.code.value
        return None if code in _CRASHES else f"ComfyUI answers 500, we say {code}"
    body = ours.to_comfy()
    pairs: dict[str, tuple[Json, Json]] = {
        "ok": (ours.ok, theirs["ok"]),
        "error": (body.get("error"), theirs["error"]),
        "outputs": (list(ours.outputs), theirs["outputs"]),
    }
    if not (is_old and isinstance(prompt, dict) and has_cycle(prompt)):
        pairs["node_errors"] = (body["node_errors"], theirs["nodes"])
    if ours.ok and not theirs["nodes"]:
        pairs["prompt"] = (ours.prompt, theirs["prompt"])
    for name, (mine, real) in pairs.items():
        mine, real = _plain(mine), _plain(real)
        if not is_ordered:
            mine, real = _sorted(mine), _sorted(real)
        if _text(mine) != _text(real):
            return f"{name}: {_text(mine)} but ComfyUI {_text(real)}"
    return None


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _sorted(value: Json) -> Json:
    """Put all lists into one order."""
    if isinstance(value, dict):
        return {key: _sorted(each) for key, each in value.items()}
    return sorted(map(_sorted, value), key=_text) if isinstance(value, list) else value


def _plain(value: Json) -> Json:
    """Drop what only we say and Python's tracebacks; show a tuple of choices as `/object_info` does: a list."""
    if isinstance(value, str):
        return re.sub(
            r" not in \((?!list of length)(.*)\)", r" not in [\1]", value, flags=re.DOTALL
        )
    if isinstance(value, dict):
        return {
            key: _plain(each) for key, each in value.items() if key not in (HINT_KEY, "traceback")
        }
    return [_plain(each) for each in value] if isinstance(value, list) else value


def has_cycle(prompt: Json) -> bool:
    """Whether links lead from a node back to itself."""
    sources = {node_id: _sources(node) for node_id, node in prompt.items()}
    done: set[str] = set()
    for start in sources:
        path: dict[str, list[str]] = {start: list(sources[start])} if start not in done else {}
        while path:
            node_id, left = next(reversed(path.items()))
            if not left:
                done.add(node_id)
                del path[node_id]
                continue
            source = left.pop()
            if source in path:
                return True
            if source in sources and source not in done:
                path[source] = list(sources[source])
    return False


def _sources(node: Json) -> list[str]:
    inputs = node.get("inputs") if isinstance(node, dict) else None
    values = inputs.values() if isinstance(inputs, dict) else ()
    plain = [value.get("__value__") if isinstance(value, dict) else value for value in values]
    return [
        value[0]
        for value in plain
        if isinstance(value, list) and value and isinstance(value[0], str)
    ]
