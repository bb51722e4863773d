"""OpenAPI 3.1 of the typed door: of one endpoint, and of all that a deployment has."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from comfyserve import __version__
from comfyserve.domain.job import JobState
from comfyserve.gateway.answers import json_response
from comfyserve.gateway.door import Call
from comfyserve.gateway.typed import models as m
from comfyserve.gateway.typed.endpoints import Loaded, load
from comfyserve.gateway.typed.options import LONGEST_WAIT_S, USUAL_WAIT_S
from comfyserve.gateway.typed.run import addressed
from comfyserve.workflow.interface import Interface, InterfaceInput, Kind, Role

Json = dict[str, Any]
_MODELS: tuple[type[BaseModel], ...] = (
    m.JobModel,
    m.JobPage,
    m.EndpointModel,
    m.EndpointIndex,
    m.BatchModel,
    m.BatchPage,
    m.ErrorModel,
)
_TYPES = {
    Kind.TEXT: {"type": "string"},
    Kind.INTEGER: {"type": "integer"},
    Kind.NUMBER: {"type": "number"},
    Kind.BOOLEAN: {"type": "boolean"},
}
_UUID = {"type": "string", "format": "uuid"}
_TEXT = {"type": "string"}


async def endpoint_openapi(call: Call) -> Response:
    """The contract of one endpoint and its jobs."""
    loaded = await addressed(call)
    title = f"{loaded.endpoint.name}, version {loaded.endpoint.version.number}"
    return json_response(_document(call, title, [loaded]))


async def deployment_openapi(call: Call) -> Response:
    """The contract of all endpoints of the deployment."""
    listed = await call.gateway.store.endpoints.list(call.deployment_id)
    loaded = [await load(call.gateway, each) for each in listed]
    return json_response(_document(call, f"Endpoints of {call.target.deployment.name}", loaded))


def _document(call: Call, title: str, endpoints: Sequence[Loaded]) -> Json:
    schemas = models_json_schema(
        [(model, "serialization") for model in _MODELS], ref_template="#/components/schemas/{model}"
    )[1]["$defs"]
    paths: dict[str, Json] = {
        "/run": {"get": _operation("list_endpoints", "All endpoints.", "EndpointIndex")}
    }
    for loaded in endpoints:
        name, schema = loaded.endpoint.name, f"{_camel(loaded.endpoint.name)}Inputs"
        schemas[schema] = input_schema(loaded.interface)
        paths |= _endpoint_paths(name, schema, loaded)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "servers": [{"url": f"{call.links.origin}{call.links.prefix}"}],
        "paths": {**paths, **_job_paths(), **_batch_paths()},
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def input_schema(interface: Interface) -> Json:
    """What a call takes, as JSON."""
    return {
        "type": "object",
        "properties": {each.name: _property(each) for each in interface.inputs},
        "required": [each.name for each in interface.inputs if each.is_required],
        "additionalProperties": False,
    }


def _property(each: InterfaceInput) -> Json:
    schema: Json = dict(_TYPES.get(each.kind, {}))
    if each.kind is Kind.CHOICE:
        schema["enum"] = list(each.choices)
    if each.kind.is_file:
        schema["type"] = "string"
        schema["minLength"] = 1
    limits = {"minimum": each.minimum, "maximum": each.maximum}
    schema |= {name: value for name, value in limits.items() if value is not None}
    if each.role is Role.SEED:
        schema = {"anyOf": [schema, {"type": "string", "const": "random"}]}
    told = ". ".join(filter(None, (each.label, each.description, _file_note(each))))
    if told:
        schema["description"] = told
    if each.default is not None and not each.kind.is_file:
        schema["default"] = each.default
    return schema


def _file_note(each: InterfaceInput) -> str:
    if not each.kind.is_file:
        return ""
    return (
        f"The {each.kind.value} as a data URL, a URL, the id of an asset, or the name of an input "
        "file; in a form the file itself"
    )


def form_schema(interface: Interface) -> Json:
    """What a call takes, as a form: files as they are."""
    schema = input_schema(interface)
    for each in interface.file_inputs():
        described = schema["properties"][each.name].get("description", "")
        schema["properties"][each.name] = {
            "type": "string",
            "format": "binary",
            "description": described,
        }
    return schema


def _endpoint_paths(name: str, schema: str, loaded: Loaded) -> dict[str, Json]:
    body: Json = {
        "required": any(each.is_required for each in loaded.interface.inputs),
        "content": {
            "application/json": {"schema": _ref(schema)},
            "multipart/form-data": {"schema": form_schema(loaded.interface)},
        },
    }
    bytes_content = {
        f"{kind}/*": {"schema": {"type": "string", "format": "binary"}}
        for kind in ("image", "video", "audio")
    }
    run = {
        **_operation(f"run_{_snake(name)}", f"Run {name}.", "JobModel"),
        "parameters": [
            *_options(),
            _query(
                "reuse", {"type": "boolean"}, "Whether stored outputs of an equal call will do."
            ),
        ],
        "requestBody": body,
    }
    run["responses"]["200"]["content"] |= {"text/event-stream": {"schema": _TEXT}, **bytes_content}
    run["responses"]["202"] = _answer("The job goes on.", "JobModel")
    batch = {
        **_operation(f"batch_{_snake(name)}", f"Run {name} many times.", "BatchModel", "202"),
        "parameters": _options(with_wait=False),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _batch_schema(loaded.interface)}},
        },
    }
    batch["responses"]["200"] = _answer(
        "The batch of an earlier request with this key.", "BatchModel"
    )
    described = _operation(
        f"describe_{_snake(name)}", f"What {name} takes and gives.", "EndpointModel"
    )
    return {f"/run/{name}": {"get": described, "post": run}, f"/run/{name}/batch": {"post": batch}}


def _batch_schema(interface: Interface) -> Json:
    lists = {
        each.name: {"type": "array", "minItems": 1, "items": _property(each)}
        for each in interface.inputs
    }
    some = {**input_schema(interface), "required": []}
    return {
        "type": "object",
        "properties": {
            "calls": {
                "type": "array",
                "minItems": 1,
                "maxItems": m.MOST_CALLS,
                "items": some,
                "description": "The inputs of each call.",
            },
            "grid": {
                "type": "object",
                "properties": lists,
                "additionalProperties": False,
                "description": "Values by input; each combination is a call.",
            },
            "common": {**some, "description": "Inputs that all calls share."},
        },
        "additionalProperties": False,
    }


def _job_paths() -> dict[str, Json]:
    job = _path("job_id", _UUID)
    listed = _operation("list_jobs", "Jobs, newest first.", "JobPage")
    listed["parameters"] = [
        _query(
            "state",
            {"type": "array", "items": {"type": "string", "enum": list(JobState)}},
            "Any of these.",
        ),
        _query("endpoint", _TEXT, "Only of this endpoint."),
        _query("batch", _TEXT, "Only of this batch."),
        _query("label", {"type": "array", "items": _TEXT}, "KEY=VALUE; all of them."),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "Size of the page."),
        _query("cursor", _TEXT, "`next_cursor` of the page before."),
    ]
    events = _operation("job_events", "The job's story, as server-sent events.", None)
    events["parameters"] = [_header("Last-Event-ID", _TEXT, "The last event that was heard.")]
    events["responses"]["200"] = _raw("The events to the end.", "text/event-stream")
    events["responses"]["204"] = {"description": "The reader has heard everything."}
    output = _operation("job_output", "The bytes of an output; ranges are served.", None)
    output["parameters"] = [
        _path("index", {"type": "integer", "minimum": 0}),
        _query("wait", {"type": "integer", "minimum": 0}, "Seconds to wait until it is made."),
    ]
    output["responses"]["200"] = _raw("The file.", "*/*")
    output["responses"]["206"] = _raw("A part of it.", "*/*")
    got = _operation("get_job", "One job as it stands.", "JobModel")
    got["parameters"] = [_header("Prefer", _TEXT, "`wait=SECONDS`: once it has ended, or then.")]
    return {
        "/jobs": {"get": listed},
        "/jobs/{job_id}": {"parameters": [job], "get": got},
        "/jobs/{job_id}/events": {"parameters": [job], "get": events},
        "/jobs/{job_id}/outputs/{index}": {"parameters": [job], "get": output},
        "/jobs/{job_id}/cancel": {
            "parameters": [job],
            "post": _operation("cancel_job", "Cancel a job in whatever state.", "JobModel"),
        },
    }


def _batch_paths() -> dict[str, Json]:
    batch = _path("batch_id", _TEXT)
    listed = _operation("list_batches", "Batches, newest first.", "BatchPage")
    listed["parameters"] = [
        _query("endpoint", _TEXT, "Only of this endpoint."),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "Size of the page."),
        _query("cursor", _TEXT, "`next_cursor` of the page before."),
    ]
    outputs = _operation("batch_outputs", "All outputs as a zip.", None)
    outputs["parameters"] = [
        _query("partial", {"type": "boolean"}, "What there is, although jobs still run.")
    ]
    outputs["responses"]["200"] = _raw("The zip, as it is made.", "application/zip")
    return {
        "/batches": {"get": listed},
        "/batches/{batch_id}": {
            "parameters": [batch],
            "get": _operation("get_batch", "One batch as it stands.", "BatchModel"),
        },
        "/batches/{batch_id}/outputs.zip": {"parameters": [batch], "get": outputs},
        "/batches/{batch_id}/cancel": {
            "parameters": [batch],
            "post": _operation("cancel_batch", "Cancel what is open of it.", "BatchModel"),
        },
    }


def _operation(id_: str, summary: str, model: str | None, status: str = "200") -> Json:
    responses: Json = {} if model is None else {status: _answer(summary, model)}
    refused = _answer("The request cannot be served as it is; `error` says why.", "ErrorModel")
    return {
        "operationId": id_,
        "summary": summary,
        "responses": {**responses, "4XX": refused, "5XX": refused},
    }


def _answer(description: str, model: str) -> Json:
    content = {"application/json": {"schema": _ref(model)}}
    return {"description": description, "content": content}


def _raw(description: str, content_type: str) -> Json:
    schema = {"type": "string", "format": "binary"}
    return {"description": description, "content": {content_type: {"schema": schema}}}


def _options(*, with_wait: bool = True) -> list[Json]:
    wait = (
        f"`wait=SECONDS`: how long to wait for the end (else {USUAL_WAIT_S:g}, at most "
        f"{LONGEST_WAIT_S:g}), or `respond-async`"
    )
    key = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"}
    return [
        *([_header("Prefer", _TEXT, wait)] if with_wait else []),
        _header("Idempotency-Key", key, "The same request with the same key is one job."),
        _query("label", {"type": "array", "items": _TEXT}, "KEY=VALUE, noted with the job."),
    ]


def _query(name: str, schema: Mapping[str, Any], description: str) -> Json:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "schema": schema,
        "description": description,
    }


def _header(name: str, schema: Mapping[str, Any], description: str) -> Json:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "schema": schema,
        "description": description,
    }


def _path(name: str, schema: Mapping[str, Any]) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _snake(name: str) -> str:
    return name.replace("-", "_")


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))
