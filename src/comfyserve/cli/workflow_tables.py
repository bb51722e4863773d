"""What a workflow is, takes and needs, as tables for people."""

import json
from collections import Counter
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from comfyserve.cli.problem_lines import printed, problem_lines, verdict_line
from comfyserve.cli.render import columns, facts
from comfyserve.cli.units import count_text, size_text
from comfyserve.workflow import Format, Prepared
from comfyserve.workflow.check import Check
from comfyserve.workflow.interface import Interface, InterfaceInput, Source
from comfyserve.workflow.plain import plain
from comfyserve.workflow.requirements import Requirements

_FORMATS = {
    Format.API: "a prompt (API format)",
    Format.API_PROMPT: "a prompt in the body of a request",
    Format.API_EXTRA_DATA: "a prompt inside extra_data",
    Format.UI_0_4: "the editor's export (schema 0.4)",
    Format.UI_1: "the editor's export (schema 1)",
    Format.APP: "an app of the editor",
}
_SOURCES = {
    Source.APP_MODE: "from app mode",
    Source.MARKED: "from marked nodes",
    Source.PROMOTED: "from what its subgraphs expose",
    Source.GUESSED: "guessed",
    Source.GIVEN: "given",
}
_PRESENCE = {True: Text("present", "green"), False: Text("missing", "red"), None: Text("?", "dim")}
_SHOWN_CLASSES = 12
_LONGEST_VALUE = 60


def overview(found: Check, owner: str) -> Iterator[Table | Text]:
    """Everything about a workflow, part by part."""
    yield summary_facts(found.prepared, owner)
    if found.interface.inputs or found.interface.outputs:
        yield Text(f"\nInterface ({_SOURCES[found.interface.source]})", "bold")
        yield interface_table(found.interface)
    yield Text("\nRequirements", "bold")
    yield from requirements_parts(found.requirements)
    if found.problems:
        yield Text("\nProblems", "bold")
        yield from problem_lines(found.problems)
    yield Text()
    yield verdict_line(found.prepared)


def requirements_parts(needs: Requirements) -> Iterator[Table | Text]:
    """What it needs, and how to get what is missing."""
    if not (needs.packs or needs.models or needs.files):
        yield Text("no models, no node packs, no input files")
    else:
        yield requirements_table(needs)
    if needs.comfyui_version:
        yield Text(f"saved with ComfyUI {printed(needs.comfyui_version)}", "dim")
    if needs.fixes:
        yield Text("\nTo get what is missing:", "bold")
        yield from fix_lines(needs)


def summary_facts(prepared: Prepared, owner: str) -> Table:
    """What the file holds, and whose catalog it is judged by."""
    shape = _FORMATS[prepared.format] if prepared.format else ""
    inside = f", embedded in a {prepared.container.value.upper()}" if prepared.container else ""
    verdict = prepared.verdict
    return facts(
        (
            ("format", f"{shape}{inside}"),
            ("catalog", printed(owner)),
            ("graph", _graph(prepared)),
            ("classes", _classes(prepared)),
            ("outputs", ", ".join(_outputs(prepared)) if verdict else ""),
        )
    )


def interface_table(found: Interface) -> Table:
    """One line for each input and output."""
    table = columns("NAME", "TYPE", "DEFAULT", "ALLOWED", "NODE")
    for each in found.inputs:
        default = "(to be given)" if each.is_required else _value(each.default)
        places = ", ".join(f"{place.node_id}.{place.input}" for place in each.places)
        table.add_row(
            Text(each.name),
            each.kind.value,
            Text(default),
            Text(_range(each)),
            Text(printed(places)),
        )
    for output in found.outputs:
        table.add_row(
            Text(output.name, "cyan"),
            Text(output.kind.value, "cyan"),
            "",
            "",
            Text(f"-> {printed(output.node_id)}", "cyan"),
        )
    return table


def requirements_table(needs: Requirements) -> Table:
    """One line for each model, node pack and input file."""
    table = columns("WHAT", "NAME", "WHERE", "SIZE", "STATE", right=("SIZE",))
    for pack in needs.packs:
        name = f"{pack.id or 'unknown pack'} {pack.version}".strip()
        table.add_row(
            "nodes",
            Text(printed(name)),
            Text(printed(", ".join(pack.classes))),
            "",
            _PRESENCE[pack.is_present],
        )
    for model in needs.models:
        size = "" if model.size_bytes is None else size_text(model.size_bytes)
        folder = f"models/{model.directory}" if model.directory else "?"
        table.add_row(
            "model",
            Text(printed(model.name)),
            Text(printed(folder)),
            size,
            _PRESENCE[model.is_present],
        )
    for file in needs.files:
        table.add_row(
            file.kind.value,
            Text(printed(file.name)),
            Text(f"input of node {printed(file.place.node_id)}"),
            "",
            _PRESENCE[file.is_present],
        )
    return table


def fix_lines(needs: Requirements) -> Iterator[Text]:
    """Yield how to get what is missing, and how much it is."""
    for fix in needs.fixes:
        yield Text(f"- {printed(fix.what)}")
        if fix.command:
            yield Text(f"    {printed(fix.command)}", "cyan")
        if fix.sdk:
            yield Text(f"    {printed(fix.sdk)}", "dim")
    if needs.download_bytes:
        unknown = needs.models_of_unknown_size
        more = f", and {count_text(unknown, 'model')} of unknown size" if unknown else ""
        yield Text(f"to download: {size_text(needs.download_bytes)}{more}", "bold")


def _graph(prepared: Prepared) -> str:
    nodes = [node for node in prepared.prompt.values() if isinstance(node, dict)]
    inputs = [node["inputs"] for node in nodes if isinstance(node.get("inputs"), dict)]
    links = sum(_is_link(value) for each in inputs for value in each.values())
    return f"{count_text(len(nodes), 'node')}, {count_text(links, 'link')}"


def _is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _classes(prepared: Prepared) -> str:
    nodes = (node for node in prepared.prompt.values() if isinstance(node, dict))
    counts = Counter(str(node.get("class_type")) for node in nodes)
    shown = [
        f"{printed(name)} x{count}" if count > 1 else printed(name)
        for name, count in counts.most_common(_SHOWN_CLASSES)
    ]
    more = len(counts) - len(shown)
    return ", ".join([*shown, *([f"and {more} more"] if more else [])])


def _outputs(prepared: Prepared) -> Iterator[str]:
    labels = prepared.labels()
    for node_id in prepared.verdict.outputs if prepared.verdict else ():
        label = labels.get(node_id)
        yield printed(label.text if label else node_id)


def _range(each: InterfaceInput) -> str:
    if each.choices:
        return _value(list(each.choices))
    low, high = each.minimum, each.maximum
    if low is None and high is None:
        return ""
    bounds = f"{'' if low is None else low} .. {'' if high is None else high}"
    return f"{bounds}, step {each.step}" if each.step not in (None, 1) else bounds


def _value(value: object) -> str:
    text = printed(json.dumps(plain(value), ensure_ascii=False))
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
