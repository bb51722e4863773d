"""History entries in ComfyUI's shape, as a client of this deployment must see them."""

import mimetypes
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from comfyserve.domain.job import Job, JobDocuments, JobError
from comfyserve.runtime.comfy import Rejected, Said

_MEDIA = frozenset({"images", "video", "audio", "gifs", "3d"})
ENDINGS = frozenset({"execution_success", "execution_error", "execution_interrupted"})
SECRETS = frozenset({"auth_token_comfy_org", "api_key_comfy_org"})


def wire_number(number: float) -> int | float:
    """ComfyUI's counter is an int on the wire; a number that a client chose stays a float."""
    return int(number) if number == int(number) else number


def queue_item(job: Job, documents: JobDocuments) -> list[Any]:
    """The five-element item of `/queue` and of a history entry; secrets are never in it."""
    extra = {key: value for key, value in documents.extra_data.items() if key not in SECRETS}
    if job.client_id is not None:
        extra["client_id"] = job.client_id
    return [
        wire_number(job.number),
        job.prompt_id,
        documents.prompt,
        extra,
        list(documents.outputs_to_execute),
    ]


def finished_entry(
    entry: Mapping[str, Any],
    job: Job,
    documents: JobDocuments,
    outputs: Mapping[str, Any],
) -> bytes:
    """The engine's own entry with our number, the client's ids and public file names."""
    item = queue_item(job, documents)
    own = entry.get("prompt")
    if isinstance(own, list) and len(own) >= 5:
        item[2], item[4] = own[2], own[4]
    status = entry.get("status") or {}
    messages = [
        [message[0], with_prompt_id(message[1], job)]
        for message in status.get("messages", ())
        if isinstance(message, list) and len(message) == 2
    ]
    return msgspec.json.encode(
        {
            **entry,
            "prompt": item,
            "outputs": outputs,
            "status": {**status, "messages": messages},
        }
    )


def failed_entry(
    job: Job,
    documents: JobDocuments,
    outputs: Mapping[str, Any],
    messages: Sequence[tuple[str, Mapping[str, Any]]],
) -> bytes:
    """The entry of a job that ended without the engine writing one."""
    return msgspec.json.encode(
        {
            "prompt": queue_item(job, documents),
            "outputs": outputs,
            "status": {
                "status_str": "error",
                "completed": False,
                "messages": [[kind, with_prompt_id(data, job)] for kind, data in messages],
            },
            "meta": {},
        }
    )


def reused_entry(
    entry: bytes, job: Job, renamed: Mapping[tuple[str, str, str], tuple[str, str, str]]
) -> bytes:
    """The entry of a job that got an earlier one's results: its ids, and the names of its own files."""
    told = msgspec.json.decode(entry)
    item = [wire_number(job.number), job.prompt_id, *told["prompt"][2:]]
    return msgspec.json.encode(
        {**told, "prompt": item, "outputs": _renamed(told.get("outputs"), renamed)}
    )


def _renamed(
    value: Any,  # noqa: ANN401 - a node may have reported anything
    renamed: Mapping[tuple[str, str, str], tuple[str, str, str]],
) -> Any:  # noqa: ANN401 - as above
    if isinstance(value, list):
        return [_renamed(each, renamed) for each in value]
    if not isinstance(value, dict):
        return value
    old = tuple(str(value.get(key) or "") for key in ("filename", "subfolder", "type"))
    new = renamed.get((old[0], old[1], old[2]))
    if new is not None:
        return {**value, "filename": new[0], "subfolder": new[1], "type": new[2]}
    return {key: _renamed(each, renamed) for key, each in value.items()}


def of_failed_wait(job: Job, documents: JobDocuments) -> bytes:
    """The entry of a job that failed before any replica took it."""
    error = job.error or JobError("internal_error", "the job ended without a reason")
    data = error_message(job, error, job.finished_at or job.created_at)
    return failed_entry(job, documents, {}, [("execution_error", data)])


def is_success(entry: Mapping[str, Any]) -> bool:
    """Whether the engine calls it a success."""
    return (entry.get("status") or {}).get("status_str") == "success"


def endings_of(entry: Mapping[str, Any]) -> tuple[Said, ...]:
    """The last messages that the engine kept: what a listener would have heard."""
    messages = (entry.get("status") or {}).get("messages", ())
    return tuple(Said(message[0], message[1]) for message in messages if message[0] in ENDINGS)


def error_message(job: Job, error: JobError, now: float) -> dict[str, Any]:
    """The data of an `execution_error` that says what the engine no longer could."""
    return {
        "prompt_id": job.prompt_id,
        "node_id": error.node_id or "",
        "node_type": error.class_type or "",
        "executed": [],
        "exception_message": error.message,
        "exception_type": error.exception_type or f"comfyserve.{error.code}",
        "traceback": [*error.traceback, *error.log_tail],
        "current_inputs": {},
        "current_outputs": [],
        "timestamp": int(now * 1000),
    }


def interrupted_message(job: Job, now: float) -> dict[str, Any]:
    """The data of an `execution_interrupted` that the engine did not send."""
    return {
        "prompt_id": job.prompt_id,
        "node_id": "",
        "node_type": "",
        "executed": [],
        "timestamp": int(now * 1000),
    }


def read_error(data: Mapping[str, Any]) -> JobError:
    """What an engine's `execution_error` says, as a job's error."""
    kind = str(data.get("exception_type") or "")
    is_memory = "OutOfMemory" in kind or kind == "MemoryError"
    trace = data.get("traceback")
    return JobError(
        code="out_of_memory" if is_memory else "node_execution_error",
        message=str(data.get("exception_message") or "the node failed").strip(),
        node_id=str(data.get("node_id") or "") or None,
        class_type=str(data.get("node_type") or "") or None,
        exception_type=kind or None,
        traceback=tuple(str(line) for line in trace) if isinstance(trace, list) else (),
    )


def summarize(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """What ComfyUI's job list says of outputs: how many, how many can be shown, and the first.

    A saved file is preferred to a temporary one.
    """
    items = [
        {**item, "nodeId": node_id, "mediaType": kind}
        for node_id, output in outputs.items()
        if isinstance(output, Mapping)
        for kind, listed in output.items()
        if isinstance(listed, list)
        for item in listed
        if isinstance(item, Mapping)
    ]
    shown = [item for item in items if _can_be_shown(item)]
    summary: dict[str, Any] = {
        "outputs_count": len(items),
        "previewable_outputs_count": len(shown),
    }
    if shown:
        saved = (item for item in shown if item.get("type") == "output")
        summary["preview_output"] = next(saved, shown[0])
    return summary


def _can_be_shown(item: Mapping[str, Any]) -> bool:
    if item.get("mediaType") in _MEDIA:
        return "filename" in item
    kind = mimetypes.guess_type(str(item.get("filename", "")))[0] or ""
    return kind.startswith(("image/", "video/", "audio/"))


def read_rejection(rejected: Rejected) -> JobError:
    """What the engine said when it refused a prompt that the catalog allowed."""
    error = rejected.body.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    nodes = rejected.body.get("node_errors")
    first: tuple[str | None, Any] = (None, {})
    if isinstance(nodes, dict):
        first = next(iter(nodes.items()), first)
    return JobError(
        "engine_rejected",
        f"the engine refused the prompt ({rejected.status}): {message}",
        node_id=first[0],
        class_type=first[1].get("class_type") if isinstance(first[1], dict) else None,
        traceback=tuple(
            f"{detail.get('message')}: {detail.get('details')}"
            for detail in (first[1].get("errors", ()) if isinstance(first[1], dict) else ())
            if isinstance(detail, dict)
        ),
    )


def with_prompt_id(data: Mapping[str, Any], job: Job) -> Mapping[str, Any]:
    """`data` as the client knows it: its own prompt id in place of the job's."""
    if job.prompt_id == job.id:
        return data
    changed = {**data, "prompt_id": job.prompt_id} if "prompt_id" in data else dict(data)
    nodes = changed.get("nodes")
    if isinstance(nodes, Mapping):
        changed["nodes"] = {
            node_id: {**state, "prompt_id": job.prompt_id} if isinstance(state, dict) else state
            for node_id, state in nodes.items()
        }
    return changed
