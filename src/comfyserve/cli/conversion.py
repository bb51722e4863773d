"""Files that are not prompts yet: the editor's export, and pictures that ComfyUI saved."""

from collections.abc import Callable, Mapping
from typing import Any

from comfyserve.cli.answers import Remark
from comfyserve.cli.errors import Refused
from comfyserve.cli.workflow_file import WorkflowFile, read_json
from comfyserve.domain.errors import InvalidInput
from comfyserve.workflow import NodeCatalog, Prepared, Problem, prepare_file
from comfyserve.workflow.problems import Severity


def convert_file(
    data: bytes, name: str, object_info: Callable[[], Mapping[str, Any]]
) -> WorkflowFile:
    """Make a prompt of what somebody has; `object_info` is asked only where it takes the catalog.

    Raises InvalidInput for what is no workflow, Refused for one that cannot be converted.
    """
    prepared = prepare_file(data, NodeCatalog.from_object_info({}))
    if prepared.format is None:
        problem = prepared.errors[0]
        raise InvalidInput(f"{name}: {problem.message} {problem.hint}".strip())
    if prepared.format.is_ui:
        prepared = prepare_file(data, NodeCatalog.from_object_info(object_info()))
        if prepared.verdict is None:
            lines = [_remark(problem).line for problem in prepared.errors]
            raise Refused(f"{name} cannot be converted to a prompt", evidence=lines)
        return _converted(prepared)
    if prepared.container is None:
        # JSON with a graph that is not right: the engine's own verdict says what is wrong.
        document = read_json(data)
        has_prompt = isinstance(document, dict) and "prompt" in document
        return WorkflowFile(document if has_prompt else {"prompt": document}, {})
    return WorkflowFile({"prompt": prepared.prompt, **_source(prepared)}, prepared.prompt)


def _converted(prepared: Prepared) -> WorkflowFile:
    # Warnings of the verdict are left to the server, which judges again and tells them.
    told = prepared.verdict.warnings if prepared.verdict is not None else ()
    remarks = tuple(
        _remark(problem)
        for problem in prepared.problems
        if problem.severity is Severity.WARNING and problem not in told
    )
    return WorkflowFile({"prompt": prepared.prompt, **_source(prepared)}, prepared.prompt, remarks)


def _source(prepared: Prepared) -> dict[str, Any]:
    """The editor's own graph goes along, as its own client sends it: saved files embed it."""
    if prepared.source is None:
        return {}
    return {"extra_data": {"extra_pnginfo": {"workflow": prepared.source}}}


def _remark(problem: Problem) -> Remark:
    return Remark(
        problem.message,
        problem.details,
        problem.hint,
        problem.node_id,
        problem.node_title,
        problem.class_type,
    )
