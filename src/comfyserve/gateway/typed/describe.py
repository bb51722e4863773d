"""`GET /run`: what the endpoints of a deployment take and give."""

from starlette.responses import Response

from comfyserve.gateway.answers import raw_json
from comfyserve.gateway.door import Call
from comfyserve.gateway.typed.endpoints import Loaded, load
from comfyserve.gateway.typed.models import (
    EndpointIndex,
    EndpointInput,
    EndpointModel,
    EndpointOutput,
)
from comfyserve.gateway.typed.run import addressed
from comfyserve.workflow.interface import to_json


async def list_endpoints(call: Call) -> Response:
    """All endpoints of the deployment."""
    listed = await call.gateway.store.endpoints.list(call.deployment_id)
    loaded = [await load(call.gateway, each) for each in listed]
    index = EndpointIndex(endpoints=[endpoint_model(call, each) for each in loaded])
    return raw_json(index.model_dump_json().encode())


async def describe_endpoint(call: Call) -> Response:
    """One endpoint."""
    return raw_json(endpoint_model(call, await addressed(call)).model_dump_json().encode())


def endpoint_model(call: Call, loaded: Loaded) -> EndpointModel:
    """An endpoint as callers see it: without the nodes behind its inputs."""
    written, base = to_json(loaded.interface), f"{call.links.prefix}/run/{loaded.endpoint.name}"
    return EndpointModel(
        name=loaded.endpoint.name,
        version=loaded.endpoint.version.number,
        published_at=loaded.endpoint.version.created_at,
        reuse=loaded.document.reuse,
        inputs=[EndpointInput.model_validate(each) for each in written["inputs"]],
        outputs=[EndpointOutput.model_validate(each) for each in written["outputs"]],
        urls={
            "run": base,
            "batch": f"{base}/batch",
            "openapi": f"{base}/openapi.json",
            "jobs": f"{call.links.prefix}/jobs?endpoint={loaded.endpoint.name}",
        },
    )
