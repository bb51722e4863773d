"""Workflows: what a deployment would make of one, said before anything wakes."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.estimate import Sample, estimate
from comfyserve.domain.usage import price_of
from comfyserve.gateway.answers import raw_json
from comfyserve.gateway.auth import READ
from comfyserve.gateway.context import read_body
from comfyserve.gateway.control.common import Caller, Parts
from comfyserve.gateway.cost_models import EstimateModel
from comfyserve.gateway.input_files import list_input_files
from comfyserve.gateway.workflow_models import WorkflowCheckModel
from comfyserve.store.jobs import PastJob
from comfyserve.workflow import Flavour, NodeCatalog, prepare_file
from comfyserve.workflow.check import check
from comfyserve.workflow.likeness import likeness

router = APIRouter()

_MOST_SAMPLES = 200

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A workflow in any format, or a file that ComfyUI saved with one inside.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.post(
    "/deployments/{name}/workflows:check",
    tags=["deployments"],
    response_model=WorkflowCheckModel,
    openapi_extra=_BODY,
)
async def check_workflow(
    name: str, gateway: Parts, caller: Caller, request: Request, flavour: Flavour = Flavour.NEW
) -> Response:
    """Convert, validate, and tell requirements and interface. Nothing runs, nothing wakes.

    The answer to a body that is no workflow is a problem too, not an error.
    """
    deployment = await gateway.deployer.find(name)
    caller.require(READ, deployment.id)
    data = await read_body(request, gateway.settings.max_body_bytes)
    snapshot = await gateway.snapshot(deployment)
    files = await list_input_files(gateway.runtime.input_dir(deployment.id))
    catalog = snapshot.catalog_with(files)
    # In a thread: it may take a while, and others are not to be kept waiting.
    return raw_json(await asyncio.to_thread(partial(_answer, data, catalog, flavour)))


@router.post("/deployments/{name}/workflows:estimate", tags=["usage"], openapi_extra=_BODY)
async def estimate_workflow(
    name: str, gateway: Parts, caller: Caller, request: Request
) -> EstimateModel:
    """How long a workflow would run and what it would cost, by jobs like it that have run.

    A body that would be refused as a job is refused here too, with the first reason.
    """
    deployment = await gateway.deployer.find(name)
    caller.require(READ, deployment.id)
    data = await read_body(request, gateway.settings.max_body_bytes)
    snapshot = await gateway.snapshot(deployment)
    catalog = snapshot.catalog_with(
        await list_input_files(gateway.runtime.input_dir(deployment.id))
    )
    past = await gateway.store.jobs.latest(deployment.id, _MOST_SAMPLES)
    samples = await asyncio.to_thread(_samples, data, past, catalog)
    gpu = past[0].receipt.gpu if past else deployment.spec.resources.gpu or ""
    return EstimateModel.model_validate(
        {
            **asdict(
                estimate(
                    samples,
                    price_per_hour=price_of(gpu, gateway.settings.prices),
                    wake_s=await gateway.store.usage.wake_seconds(deployment.id),
                )
            ),
            "gpu": gpu,
        }
    )


def _samples(data: bytes, past: Sequence[PastJob], catalog: NodeCatalog) -> list[Sample]:
    """Past jobs, compared with the workflow in `data`. Raises InvalidInput for what cannot run."""
    prepared = prepare_file(data, catalog)
    if not prepared.ok:
        first = prepared.errors[0]
        raise InvalidInput(f"{first.message} {first.hint}".strip(), code="invalid_workflow")
    wanted = likeness(prepared.prompt, catalog)
    found = [(likeness(job.prompt, catalog), job.receipt) for job in past]
    return [
        Sample(
            receipt,
            has_same_settings=other.settings == wanted.settings,
            has_same_graph=other.shape == wanted.shape,
        )
        for other, receipt in found
    ]


def _answer(data: bytes, catalog: NodeCatalog, flavour: Flavour) -> bytes:
    answer = check(data, catalog, flavour=flavour).to_json()
    return json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()
