"""`POST /jobs`: a workflow in API format becomes a committed job, or a 422 that says why."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from starlette.responses import Response

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.job import JobDocuments
from comfyserve.gateway.admission import admit
from comfyserve.gateway.answers import json_response
from comfyserve.gateway.context import read_body
from comfyserve.gateway.door import Call
from comfyserve.gateway.errors import Refusal
from comfyserve.gateway.fields import read_idempotency_key, read_labels
from comfyserve.gateway.input_files import list_input_files
from comfyserve.gateway.job_ids import new_job_id
from comfyserve.gateway.job_webhook import read_webhook
from comfyserve.gateway.v2.errors import invalid_request
from comfyserve.gateway.v2.fields import read_secrets, refuse_unknown
from comfyserve.gateway.v2.inputs import with_input_files
from comfyserve.gateway.v2.shapes import job_json
from comfyserve.store.jobs import NewJob
from comfyserve.store.keys import UsedKey, key_reuse
from comfyserve.workflow.formats import is_ui
from comfyserve.workflow.validate import Verdict, validate

_LARGE_BYTES = 64 * 1024
_FIELDS = frozenset({"workflow", "extra_data", "metadata"})
_KEY_SPACE = "v2/jobs:"


@dataclass(frozen=True, slots=True)
class Submission:
    """A body, read and checked."""

    workflow: Mapping[str, Any]
    labels: Mapping[str, str]
    secrets: Mapping[str, Any]
    is_large: bool
    digest: str


async def submit_job(call: Call) -> Response:
    """Accept a job: 201, and queued, whether or not anything is awake."""
    body = await read_body(call.request, call.gateway.settings.max_body_bytes)
    submission = read_submission(body)
    key = await claimable_key(call, _KEY_SPACE)
    await admit(call.gateway, call.target.deployment, call.request.state.principal)
    verdict = await _validated(call, submission)
    job_id = new_job_id(call.now)
    limits = call.target.deployment.spec.limits
    enqueued = await call.gateway.store.jobs.enqueue(
        NewJob(
            id=job_id,
            deployment_id=call.deployment_id,
            revision_id=call.target.deployment.revision.id,
            prompt_id=job_id,
            documents=JobDocuments(
                prompt=verdict.prompt,
                extra_data={},
                outputs_to_execute=tuple(verdict.outputs),
                secrets=submission.secrets,
            ),
            principal=call.principal,
            labels=submission.labels,
            max_attempts=limits.max_attempts,
            max_queue=limits.max_queue,
            idempotency_key=None if key is None else key.key,
            is_key_single_use=True,
            request_digest=submission.digest,
            webhook=read_webhook(call.request),
        ),
        call.now,
    )
    call.gateway.runtime.accepted(enqueued.job)
    shown = await job_json(call, enqueued.job)
    return json_response(shown, 201, {"Location": call.links.job(job_id)})


def read_submission(body: bytes) -> Submission:
    """Read a body. Raises Refusal, and InvalidInput for what is not JSON."""
    sent = read_object(body)
    refuse_unknown(sent, _FIELDS, "the body")
    workflow = sent.get("workflow")
    if not isinstance(workflow, dict):
        raise invalid_request("the body needs 'workflow': an object in ComfyUI's API format")
    if is_ui(workflow):
        raise Refusal(
            422,
            "workflow_format_ui",
            "this is the editor's own format; export with 'Workflow > Export (API)', or post it to "
            "/prompt of this deployment, which converts it",
        )
    return Submission(
        workflow=workflow,
        labels=read_labels(sent.get("metadata")),
        secrets=read_secrets(sent.get("extra_data")),
        is_large=len(body) > _LARGE_BYTES,
        digest=hashlib.blake2b(body, digest_size=16).hexdigest(),
    )


def read_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object: strict JSON, no NaN. Raises Refusal and InvalidInput."""
    try:
        sent = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(sent, dict):
        raise invalid_request(f"the body must be a JSON object, not {type(sent).__name__}")
    return sent


async def claimable_key(call: Call, space: str) -> UsedKey | None:
    """The request's key, if it has one that nobody used. The store claims it with the record.

    Raises Conflict `idempotency_key_reuse`.
    """
    key = read_idempotency_key(call.request.headers)
    if key is None:
        return None
    used = UsedKey(call.deployment_id, call.principal, space + key)
    if await call.gateway.store.jobs.is_key_used(used, call.now):
        raise key_reuse()
    return used


async def _validated(call: Call, submission: Submission) -> Verdict:
    """The verdict on a workflow that runs as a whole. Raises Refusal for any other."""
    workflow = await with_input_files(call, submission.workflow)
    files = await list_input_files(call.target.input_dir)
    work = partial(validate, workflow, call.target.snapshot.catalog_with(files))
    verdict = await asyncio.to_thread(work) if submission.is_large else work()
    verdict = verdict.all_or_nothing()
    if not verdict.ok:
        raise _invalid(verdict)
    return verdict


def _invalid(verdict: Verdict) -> Refusal:
    first = next(iter(verdict.problems), None)
    told = verdict.to_comfy()
    message = "the workflow is not valid" if first is None else first.message
    if first is not None and first.node_id is not None:
        message = f"node {first.node_id[:80]}: {message}"
    return Refusal(
        422,
        "invalid_workflow",
        message,
        {"error": told.get("error"), "node_errors": told["node_errors"]},
    )
