"""Inputs by name become a prompt that runs on the deployment as it is now, or all reasons why not."""

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec

from comfyserve.domain.typed import JobCall
from comfyserve.gateway.door import Call
from comfyserve.gateway.input_files import list_input_files
from comfyserve.gateway.typed.endpoints import Loaded
from comfyserve.gateway.typed.errors import invalid_inputs, misfit, problem_json
from comfyserve.gateway.typed.forms import Upload
from comfyserve.gateway.typed.input_files import resolve_file
from comfyserve.workflow import NodeCatalog, Problem
from comfyserve.workflow.interface import Interface, InterfaceInput, Kind, Role, apply
from comfyserve.workflow.problems import Code
from comfyserve.workflow.reuse import why_not_repeatable
from comfyserve.workflow.validate import Verdict, validate

RANDOM = "random"
_MOST_SEED = 2**53 - 1
_FILE = "a file"


@dataclass(frozen=True, slots=True)
class Checked:
    """Inputs whose types, ranges and choices are right; their files are not looked at yet."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """A prompt that runs, and the inputs as the job shows them."""

    prompt: Mapping[str, Any]
    outputs: tuple[str, ...]
    inputs: Mapping[str, Any]
    reuse_key: str | None
    """What tells the result from others; None where it may differ each time."""


def check_inputs(
    loaded: Loaded, values: Mapping[str, Any], index: int | None = None
) -> tuple[Checked, list[dict[str, Any]]]:
    """Look at inputs without touching anything: what they would be, and what is wrong with them."""
    interface = loaded.interface
    chosen = {name: _seed(interface.input(name), value) for name, value in values.items()}
    looked_at = {
        name: _FILE if (each := interface.input(name)) is not None and each.kind.is_file else value
        for name, value in chosen.items()
    }
    problems = [
        _not_a_file(interface, name)
        for name, value in looked_at.items()
        if isinstance(value, Upload) and interface.input(name) is not None
    ]
    plain = {name: "" if isinstance(v, Upload) else v for name, v in looked_at.items()}
    for upload in problems:
        plain.pop(upload.input_name or "", None)
    applied = apply(loaded.document.prompt, plain, interface)
    asked = {problem.input_name for problem in problems}
    problems += [
        each
        for each in applied.problems
        if not (each.code is Code.VALUE_MISSING and each.input_name in asked)
    ]
    found = Checked({**applied.values, **_files_of(interface, chosen)})
    return found, [problem_json(problem, index) for problem in problems]


async def make_ready(
    call: Call, loaded: Loaded, checked: Checked, index: int | None = None
) -> Ready | list[dict[str, Any]]:
    """Bring the files where the engine looks, and judge the whole prompt by the catalog of now."""
    interface, snapshot = loaded.interface, call.target.snapshot
    values, shown, contents = dict(checked.values), dict(checked.values), {}
    problems: list[Problem] = []
    catalog = snapshot.catalog_with(await list_input_files(call.target.input_dir))
    for each in interface.file_inputs():
        if each.name in values:
            found = await resolve_file(call, each, values[each.name], catalog)
            if isinstance(found, Problem):
                problems.append(found)
                continue
            values[each.name] = found.name
            shown[each.name] = found.asset_id or found.name
            if found.digest is not None:
                contents[each.name] = f"blake3:{found.digest}"
    if problems:
        return [problem_json(problem, index) for problem in problems]
    catalog = snapshot.catalog_with(await list_input_files(call.target.input_dir))
    applied = apply(loaded.document.prompt, values, interface)
    verdict = await asyncio.to_thread(partial(validate, applied.prompt, catalog))
    if verdict.ok and not verdict.is_partial and not applied.problems:
        key = _reuse_key(call, loaded, verdict, catalog, (values, contents))
        return Ready(applied.prompt, verdict.outputs, shown, key)
    return _judged(loaded, values, (*applied.problems, *_of_nodes(verdict)), index)


def job_call(loaded: Loaded, ready: Ready) -> JobCall:
    """What is noted with the job."""
    endpoint = loaded.endpoint
    return JobCall(
        endpoint=endpoint.name,
        version=endpoint.version.number,
        inputs=ready.inputs,
        outputs={each.node_id: each.name for each in loaded.interface.outputs},
        reuse_key=ready.reuse_key,
    )


def _reuse_key(
    call: Call,
    loaded: Loaded,
    verdict: Verdict,
    catalog: NodeCatalog,
    given: tuple[Mapping[str, Any], Mapping[str, str]],
) -> str | None:
    """A digest of all that a result depends on: the prompt with files by content, and who may see it."""
    values, contents = given
    interface, prompt = loaded.interface, loaded.document.prompt
    by_content = [
        place for each in interface.file_inputs() if each.name in contents for place in each.places
    ]
    applied = apply(prompt, {**values, **contents}, interface).prompt
    if why_not_repeatable(applied, verdict.outputs, catalog, by_content) is not None:
        return None
    deployment = call.target.deployment
    scope = [deployment.id, deployment.revision.id, call.principal]
    document = msgspec.json.encode([applied, verdict.outputs, scope], order="deterministic")
    return hashlib.blake2b(document, digest_size=16).hexdigest()


def _judged(
    loaded: Loaded, values: Mapping[str, Any], problems: tuple[Problem, ...], index: int | None
) -> list[dict[str, Any]]:
    """What the catalog says against a prompt. Where no given input is to blame, the endpoint is outdated.

    Raises Refusal `endpoint_outdated`.
    """
    blamed = [
        replace(problem, input_name=name)
        for problem in problems
        if (name := _set_by(loaded.interface, problem)) in values
    ]
    if not blamed:
        raise misfit(loaded.endpoint.name, [problem_json(problem) for problem in problems])
    return [problem_json(problem, index) for problem in blamed]


def _of_nodes(verdict: Verdict) -> tuple[Problem, ...]:
    of_nodes = tuple(each for node in verdict.node_problems for each in node.problems)
    return of_nodes or verdict.problems


def _set_by(interface: Interface, problem: Problem) -> str | None:
    """The input that sets the place of a problem."""
    here = (problem.node_id, problem.input_name)
    return next((each.name for each in interface.inputs if here in each.places), None)


def _seed(each: InterfaceInput | None, value: object) -> object:
    """A seed may be left to chance; the job tells which one it got."""
    if each is None or each.role is not Role.SEED or value != RANDOM:
        return value
    low = int(each.minimum or 0)
    high = min(int(each.maximum or _MOST_SEED), _MOST_SEED)
    return low + secrets.randbelow(max(1, high - low + 1))


def _files_of(interface: Interface, values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {each.name: values[each.name] for each in interface.file_inputs() if each.name in values}


def _not_a_file(interface: Interface, name: str) -> Problem:
    each = interface.input(name)
    kind = (each.kind if each is not None else Kind.TEXT).value
    return Problem(
        Code.VALUE_REFUSED,
        f"Input '{name}' takes {kind}, not a file",
        input_name=name,
        allowed=kind,
        hint=f"Send '{name}' as a field of the form, not as a file.",
    )


def refuse(loaded: Loaded, problems: list[dict[str, Any]]) -> None:
    """Raise Refusal `invalid_inputs` if there is any problem."""
    if problems:
        raise invalid_inputs(loaded.endpoint.name, problems)


def require_ready(loaded: Loaded, found: Ready | list[dict[str, Any]]) -> Ready:
    """What can run. Raises Refusal `invalid_inputs` for problems."""
    if isinstance(found, Ready):
        return found
    raise invalid_inputs(loaded.endpoint.name, found)
