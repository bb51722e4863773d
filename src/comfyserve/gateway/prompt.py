"""`POST /prompt`: whatever came in becomes a committed job, or a 400 that says why."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from comfyserve.domain.errors import Conflict, InvalidInput
from comfyserve.domain.ids import is_canonical_uuid
from comfyserve.domain.job import JobDocuments
from comfyserve.gateway.admission import admit
from comfyserve.gateway.answers import json_response
from comfyserve.gateway.context import Gateway, Target, decode_json, gateway_of, read_body
from comfyserve.gateway.input_files import list_input_files, loads_files
from comfyserve.gateway.job_ids import new_job_id
from comfyserve.gateway.job_webhook import read_webhook
from comfyserve.runtime.history import SECRETS, wire_number
from comfyserve.store.jobs import Enqueued, NewJob
from comfyserve.workflow.prepare import Prepared, prepare
from comfyserve.workflow.problems import HINT_KEY, Severity, error_body

# Since then ComfyUI takes only canonical UUIDs as prompt ids, and notes when a prompt came in.
NEWER = (0, 4)
_LARGE_BYTES = 64 * 1024
_STRICT_HEADER = "x-comfyserve-strict"
_WARNINGS_HEADER = "X-Comfyserve-Warnings"
_IDEMPOTENCY_HEADER = "idempotency-key"


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client sent beside the graph, read and checked."""

    prompt_id: str
    client_id: str | None
    number: float | None
    is_front: bool
    extra_data: Mapping[str, Any]
    secrets: Mapping[str, Any]
    targets: tuple[str, ...] | None


async def post_prompt(request: Request) -> Response:
    """Accept a prompt: convert, validate, commit, answer. Nothing wakes before the commit."""
    gateway = gateway_of(request)
    target: Target = request.state.target
    body = await read_body(request, gateway.settings.max_body_bytes)
    sent = decode_json(body)
    now = gateway.clock.now()
    submission = read_submission(sent, target, now)
    await admit(gateway, target.deployment, request.state.principal)
    prepared = await _prepare(sent, target, submission, size=len(body))
    verdict = prepared.verdict
    if verdict is None:
        return json_response(_not_a_prompt(prepared), 400)
    header = request.headers.get(_STRICT_HEADER)
    if wants_all(header, default=gateway.settings.strict_prompts):
        verdict = verdict.all_or_nothing()
    if not verdict.ok:
        return json_response(verdict.to_comfy(), 400)
    key = request.headers.get(_IDEMPOTENCY_HEADER)
    new = NewJob(
        id=_job_id(submission.prompt_id, now),
        deployment_id=target.deployment.id,
        revision_id=target.deployment.revision.id,
        prompt_id=submission.prompt_id,
        documents=JobDocuments(
            # As it came: the engine converts values itself, and not every conversion can be repeated.
            prompt=prepared.prompt,
            extra_data=_with_source(submission.extra_data, prepared),
            outputs_to_execute=tuple(verdict.outputs),
            partial_execution_targets=submission.targets,
            secrets=submission.secrets,
        ),
        number=submission.number,
        front=submission.is_front,
        client_id=submission.client_id,
        principal=request.state.principal.name,
        labels={},
        max_attempts=target.deployment.spec.limits.max_attempts,
        max_queue=target.deployment.spec.limits.max_queue,
        idempotency_key=key,
        request_digest="" if key is None else hashlib.blake2b(body, digest_size=16).hexdigest(),
        answer_node_errors={n.node_id: n.to_comfy() for n in verdict.node_problems},
        webhook=read_webhook(request),
    )
    enqueued = await _enqueue(gateway, new, now)
    if not enqueued.is_replay:
        gateway.runtime.accepted(enqueued.job)
    warnings = [p.to_json() for p in prepared.problems if p.severity is Severity.WARNING]
    answer = {
        "prompt_id": enqueued.job.prompt_id,
        "number": wire_number(enqueued.job.number),
        "node_errors": enqueued.node_errors,
    }
    if not warnings:
        return json_response(answer)
    headers = {_WARNINGS_HEADER: str(len(warnings))}
    return json_response({**answer, "warnings": warnings}, headers=headers)


def wants_all(header: str | None, *, default: bool) -> bool:
    """Whether a prompt is refused of which only a part would run; the request goes before the setting."""
    return {"1": True, "true": True, "0": False, "false": False}.get(
        (header or "").lower(), default
    )


async def _prepare(sent: object, target: Target, submission: Submission, *, size: int) -> Prepared:
    """Convert and validate; a large body in a thread, so that others are not kept waiting."""
    snapshot, catalog = target.snapshot, target.snapshot.catalog
    if not isinstance(sent, dict) or loads_files(snapshot, sent.get("prompt")):
        catalog = snapshot.catalog_with(await list_input_files(target.input_dir))
    work = partial(prepare, sent, catalog, partial_execution_targets=submission.targets)
    return await asyncio.to_thread(work) if size > _LARGE_BYTES else work()


def _not_a_prompt(prepared: Prepared) -> Mapping[str, Any]:
    """ComfyUI's answer to a body without a prompt; ours where a UI workflow cannot be converted."""
    first = prepared.errors[0]
    if prepared.format is not None:
        return error_body(first)
    no_prompt = {
        "type": "no_prompt",
        "message": "No prompt provided",
        "details": "No prompt provided",
        "extra_info": {},
        HINT_KEY: {"hint": first.hint},
    }
    return {"error": no_prompt, "node_errors": {}}


def _with_source(extra_data: Mapping[str, Any], prepared: Prepared) -> Mapping[str, Any]:
    """Beside a converted prompt its UI workflow, as the editor sends it: saved files embed it."""
    if prepared.source is None or prepared.format is None or not prepared.format.is_ui:
        return extra_data
    given = extra_data.get("extra_pnginfo")
    pnginfo = given if isinstance(given, dict) else {}
    return {**extra_data, "extra_pnginfo": {"workflow": prepared.source, **pnginfo}}


async def _enqueue(gateway: Gateway, new: NewJob, now: float) -> Enqueued:
    """Commit it. A prompt id that was used before is ComfyUI's to reuse: the job gets another."""
    try:
        return await gateway.store.jobs.enqueue(new, now)
    except Conflict as conflict:
        if conflict.code != "job_exists":
            raise
    return await gateway.store.jobs.enqueue(replace(new, id=new_job_id(now)), now)


def read_submission(sent: object, target: Target, now: float) -> Submission:
    """Read the fields beside the graph. Raises InvalidInput where ComfyUI answers 500."""
    fields: Mapping[str, Any] = sent if isinstance(sent, dict) else {}
    extra = fields.get("extra_data")
    if extra is None:
        extra = {}
    if not isinstance(extra, dict):
        raise InvalidInput(f"extra_data must be an object, not {type(extra).__name__}")
    kept = {k: v for k, v in extra.items() if k not in SECRETS and k != "client_id"}
    if target.version >= NEWER:
        kept["create_time"] = int(now * 1000)
    client_id = fields.get("client_id", extra.get("client_id"))
    targets = fields.get("partial_execution_targets")
    if targets is not None and not isinstance(targets, list):
        raise InvalidInput("partial_execution_targets must be a list of node ids")
    return Submission(
        prompt_id=_prompt_id(fields.get("prompt_id"), target, now),
        client_id=None if client_id is None else str(client_id),
        number=_number(fields),
        is_front=bool(fields.get("front")),
        extra_data=kept,
        secrets={key: extra[key] for key in SECRETS if key in extra},
        targets=None if targets is None else tuple(str(node_id) for node_id in targets),
    )


def _prompt_id(given: object, target: Target, now: float) -> str:
    """The client's choice as its ComfyUI would take it, else a fresh one."""
    if given is None:
        return new_job_id(now)
    if target.version >= NEWER and not (isinstance(given, str) and is_canonical_uuid(given)):
        raise InvalidInput(
            "prompt_id must be a lowercase UUID (8-4-4-4-12 hexadecimal digits), or left out",
            code="invalid_prompt_id",
        )
    return str(given)


def _job_id(prompt_id: str, now: float) -> str:
    """What the engine gets: never anything but a lowercase UUID."""
    return prompt_id if is_canonical_uuid(prompt_id) else new_job_id(now)


def _number(fields: Mapping[str, Any]) -> float | None:
    if "number" not in fields:
        return None
    try:
        return float(fields["number"])
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput(f"number must be a number, not {fields['number']!r:.80}") from None
