"""Workflows: what a deployment would make of one, said before anything wakes."""

import asyncio
import json
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from comfyserve.gateway.answers import raw_json
from comfyserve.gateway.auth import READ
from comfyserve.gateway.context import read_body
from comfyserve.gateway.control.common import Caller, Parts
from comfyserve.gateway.input_files import list_input_files
from comfyserve.gateway.workflow_models import WorkflowCheckModel
from comfyserve.workflow import Flavour, NodeCatalog
from comfyserve.workflow.check import check

router = APIRouter()

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
    snapshot = await gateway.runtime.snapshot(deployment.revision.snapshot_digest)
    files = await list_input_files(gateway.runtime.input_dir(deployment.id))
    catalog = snapshot.catalog_with(files)
    # In a thread: it may take a while, and others are not to be kept waiting.
    return raw_json(await asyncio.to_thread(partial(_answer, data, catalog, flavour)))


def _answer(data: bytes, catalog: NodeCatalog, flavour: Flavour) -> bytes:
    answer = check(data, catalog, flavour=flavour).to_json()
    return json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()
