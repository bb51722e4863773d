"""Warnings: what ComfyUI accepts without a word, and what probably is a mistake."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.dynamic import COMBO, option_keys
from comfyserve.workflow.nearest import Nearest
from comfyserve.workflow.problems import Code, Problem, Severity, shortened
from comfyserve.workflow.specs import LINK_ONLY, InputSpec
from comfyserve.workflow.walk import Walk

_MOST = 100


def remarks(
    prompt: Mapping[str, Any],
    catalog: NodeCatalog,
    walk: Walk,
    dropped: Sequence[str],
    nearest: Nearest,
) -> tuple[Problem, ...]:
    """Return the warnings for the nodes that were looked at; `dropped`: outputs that do not run."""
    found = chain(
        _outputs_and_undecided(prompt, walk, dropped),
        *(
            _odd_inputs(prompt, node_id, inputs, specs, nearest)
            for node_id, (inputs, specs) in walk.looked_at.items()
        ),
        _odd_options(prompt, catalog, walk),
    )
    return tuple(islice(found, _MOST))


def title_of(node: object) -> str | None:
    """Return the title that the editor shows over a node."""
    meta = node.get("_meta") if isinstance(node, dict) else None
    title = meta.get("title") if isinstance(meta, dict) else None
    return shortened(title, 200) if isinstance(title, str) else None


def _outputs_and_undecided(
    prompt: Mapping[str, Any], walk: Walk, dropped: Sequence[str]
) -> Iterator[Problem]:
    for node_id in dropped:
        yield _warning(
            Code.OUTPUT_DROPPED,
            node_id,
            prompt,
            "This output is dropped; the others run without it",
            hint="Mend the problems that are listed for it, or ask for strict validation.",
        )
    for node_id in walk.undecided:
        yield _warning(
            Code.DECIDED_BY_ENGINE,
            node_id,
            prompt,
            "The class checks its inputs itself: only the engine can tell",
            hint="Nothing to do unless the engine refuses it.",
        )


def _odd_options(prompt: Mapping[str, Any], catalog: NodeCatalog, walk: Walk) -> Iterator[Problem]:
    """Find dynamic combos that are not given, or given something that is no option of theirs."""
    if not catalog.rules.expands_inputs:
        return
    for node_id, (inputs, specs) in walk.looked_at.items():
        node_class = catalog.get(prompt[node_id]["class_type"])
        if node_class is None or not node_class.is_dynamic:
            continue
        known = {spec.name for spec in specs}
        for spec in node_class.inputs:
            if spec.type == COMBO and spec.is_required and spec.name not in known:
                keys = tuple(option_keys(spec))
                yield _warning(
                    Code.UNKNOWN_OPTION,
                    node_id,
                    prompt,
                    f"'{spec.name}' is none of its options: ComfyUI drops it, the node will fail",
                    hint=shortened(f"Choose one of {', '.join(map(repr, keys))}.", 500),
                    input_name=spec.name,
                    given=inputs.get(spec.name),
                    allowed=shortened(", ".join(map(repr, keys)), 500),
                )


def _odd_inputs(
    prompt: Mapping[str, Any],
    node_id: str,
    inputs: Mapping[str, Any],
    specs: Sequence[InputSpec],
    nearest: Nearest,
) -> Iterator[Problem]:
    """Find inputs that ComfyUI passes over, and values where a link is needed."""
    absent = []
    for spec in specs:
        if spec.name not in inputs:
            absent.append(spec.name)
        elif spec.type in LINK_ONLY and not isinstance(inputs[spec.name], list):
            yield _warning(
                Code.VALUE_IN_PLACE_OF_LINK,
                node_id,
                prompt,
                f"'{spec.name}' is a value where a link to {spec.type} is needed: the node will fail",
                hint=f"Link '{spec.name}' to an output of type {spec.type}.",
                input_name=spec.name,
                given=inputs[spec.name],
                allowed=f"a link to an output of type {spec.type}",
            )
    if not absent or len(specs) - len(absent) == len(inputs):
        return
    known = {spec.name for spec in specs}
    for name in inputs:
        alike = () if name in known else nearest.of(name, absent)
        if alike:
            yield _warning(
                Code.UNKNOWN_INPUT,
                node_id,
                prompt,
                f"There is no input '{shortened(name, 100)}': ComfyUI passes over it",
                hint=f"Did you mean '{alike[0]}'?",
                input_name=name,
                nearest=alike,
            )


def _warning(
    code: Code, node_id: str, prompt: Mapping[str, Any], message: str, **more: object
) -> Problem:
    node = prompt[node_id]
    return Problem(
        code,
        message,
        node_id=node_id,
        node_title=title_of(node),
        class_type=node["class_type"],
        severity=Severity.WARNING,
        **more,  # type: ignore[arg-type]
    )
