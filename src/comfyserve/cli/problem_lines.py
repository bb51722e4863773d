"""What is wrong with a workflow, as lines for people."""

import json
from collections.abc import Iterator, Sequence

from rich.text import Text

from comfyserve.cli.units import count_text
from comfyserve.workflow import Prepared, Problem
from comfyserve.workflow.plain import plain
from comfyserve.workflow.problems import Code, Severity

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow"}
_SUMMARY = Code.PROMPT_OUTPUTS_FAILED_VALIDATION
_LONGEST_VALUE = 100
_LONGEST_TEXT = 400
_SHOWN = 100


def single_problems(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems without the one that only sums up the others."""
    has_nodes = any(each.node_id is not None for each in problems)
    return [each for each in problems if not (has_nodes and each.code is _SUMMARY)]


def problem_lines(problems: Sequence[Problem]) -> Iterator[Text]:
    """Yield each problem with what was given, what is allowed and how to mend it; the first ones."""
    problems = single_problems(problems)
    node_id: str | None = None
    for problem in problems[:_SHOWN]:
        if problem.node_id is None:
            node_id = None
        elif problem.node_id != node_id:
            node_id = problem.node_id
            yield Text(_node_of(problem), "bold")
        yield from _lines(problem, "  " if problem.node_id is not None else "")
    if len(problems) > _SHOWN:
        yield Text(f"and {len(problems) - _SHOWN} more; --json has them", "dim")


def verdict_line(prepared: Prepared) -> Text:
    """Say in one line what ComfyUI would answer."""
    verdict = prepared.verdict
    if verdict is None:
        return Text("there is no prompt to judge: it cannot be converted", "bold red")
    if not verdict.ok:
        return Text("it would be refused", "bold red")
    outputs = count_text(len(verdict.outputs), "output")
    if verdict.is_partial:
        return Text(f"only a part would run: {outputs} ({', '.join(verdict.outputs)})", "yellow")
    line = Text(f"it would run: {outputs} (node {', '.join(verdict.outputs)})", "green")
    if verdict.undecided:
        undecided = ", ".join(verdict.undecided)
        line.append(f"; only the engine can judge the inputs of node {undecided}", "default")
    return line


def _node_of(problem: Problem) -> str:
    title = problem.node_title
    named = f' "{printed(title)}"' if title and title != problem.class_type else ""
    return f"node {printed(problem.node_id or '')}{named} ({printed(problem.class_type or 'no class')})"


def _lines(problem: Problem, indent: str) -> Iterator[Text]:
    where = f"{printed(problem.input_name)}: " if problem.input_name else ""
    mark = (f"{problem.severity}: ", _STYLES[problem.severity])
    yield Text.assemble(indent, mark, where, printed(_message(problem)))
    if problem.given is not None:
        yield _fact(indent, "given", _value(problem.given))
    if problem.allowed:
        yield _fact(indent, "allowed", printed(problem.allowed))
    if problem.nearest:
        yield _fact(indent, "nearest", ", ".join(map(printed, problem.nearest)))
    if problem.hint:
        yield _fact(indent, "hint", printed(problem.hint))


def _fact(indent: str, name: str, value: str) -> Text:
    return Text.assemble(indent, "  ", (f"{name}: ", "dim"), value)


def _message(problem: Problem) -> str:
    details = problem.details.strip()
    is_said = not details or details in problem.message or details == problem.input_name
    return problem.message if is_said else f"{problem.message.rstrip('.')}: {details}"


def _value(value: object) -> str:
    text = json.dumps(plain(value), ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def printed(text: str) -> str:
    """Return a text of the file as one line that is not too long and does nothing to a terminal."""
    shown = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in shown)
