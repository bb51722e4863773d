"""`/prompt`, `/queue`, `/interrupt`, `/free`, `/history`: prompts come in, are looked at, are taken back.

Bodies that ComfyUI answers with a bare 500 (not JSON, not an object) are answered so here too: the
exception goes up to aiohttp, as it does there.
"""

import json
import logging
import time
import uuid
from typing import Any

from aiohttp import web

from comfyserve.engine.faults import FaultKind
from comfyserve.engine.judge import judge
from comfyserve.engine.queue import QueueItem
from comfyserve.engine.state import Engine, engine_of

_log = logging.getLogger(__name__)
_SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")


def routes() -> list[web.RouteDef]:
    """Return the routes of this module."""
    return [
        web.get("/prompt", get_prompt),
        web.post("/prompt", post_prompt),
        web.get("/queue", get_queue),
        web.post("/queue", post_queue),
        web.post("/interrupt", interrupt),
        web.post("/free", free),
        web.get("/history", get_history),
        web.get("/history/{prompt_id}", get_history_entry),
        web.post("/history", post_history),
    ]


async def get_prompt(request: web.Request) -> web.Response:
    """Say how many prompts wait or run."""
    return web.json_response(engine_of(request).queue_info())


async def post_prompt(request: web.Request) -> web.Response:
    """Check a prompt and put it in the queue."""
    engine = engine_of(request)
    _log.info("got prompt")
    if engine.faults.find(FaultKind.REFUSE_PROMPTS):
        raise RuntimeError("fault: refusing prompts")
    sent = await request.json()
    body = sent if isinstance(sent, dict) else {}
    number = _number(engine, body)
    if "prompt" not in body:
        return _refusal("no_prompt", "No prompt provided", "No prompt provided")
    prompt_id = body.get("prompt_id")
    if prompt_id is None:
        prompt_id = str(uuid.uuid4())
    elif not is_job_id(prompt_id):
        return _refusal(
            "invalid_prompt_id",
            "prompt_id must be a valid UUID",
            "prompt_id must be a UUID string in canonical lowercase hyphenated form; "
            "omit it to let the server generate one",
        )
    verdict = judge(engine.library, body["prompt"], body.get("partial_execution_targets"))
    extra_data, secrets = _extra_data(request, body)
    if not verdict.is_ok:
        _log.warning("invalid prompt: %s", verdict.body["error"])
        return web.json_response(verdict.body, status=400)
    engine.queue.put(
        QueueItem(number, prompt_id, verdict.prompt, extra_data, verdict.outputs, secrets)
    )
    return web.json_response({"prompt_id": prompt_id, "number": number, **verdict.body})


def _number(engine: Engine, body: dict[str, Any]) -> float:
    if "number" in body:
        return float(body["number"])
    number = next(engine.numbers)
    return -number if body.get("front") else number


def _extra_data(
    request: web.Request, body: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what goes with the prompt, and apart from it what nobody may see."""
    extra_data = dict(body.get("extra_data", {}))
    if "client_id" in body:
        extra_data["client_id"] = body["client_id"]
    source = request.headers.get("Comfy-Usage-Source")
    if source:
        extra_data.setdefault("comfy_usage_source", source)
    secrets = {key: extra_data.pop(key) for key in _SECRETS if key in extra_data}
    extra_data["create_time"] = int(time.time() * 1000)
    return extra_data, secrets


def is_job_id(value: object) -> bool:
    """Whether this is a UUID in lowercase with hyphens: the only prompt id that is taken."""
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


def _refusal(kind: str, message: str, details: str) -> web.Response:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return web.json_response({"error": error, "node_errors": {}}, status=400)


async def get_queue(request: web.Request) -> web.Response:
    """Return what runs and what waits."""
    running, waiting = engine_of(request).queue.snapshot()
    return web.json_response(
        {
            "queue_running": [item.to_wire() for item in running],
            "queue_pending": [item.to_wire() for item in waiting],
        }
    )


async def post_queue(request: web.Request) -> web.Response:
    """Forget prompts that wait: all (`clear`) or some (`delete`)."""
    queue = engine_of(request).queue
    body = await request.json()
    if body.get("clear"):
        queue.clear()
    for prompt_id in body.get("delete", ()):
        queue.delete(prompt_id)
    return web.Response()


async def interrupt(request: web.Request) -> web.Response:
    """Ask the running prompt to stop; with a `prompt_id` only if it is that one."""
    try:
        body = await request.json()
    except json.JSONDecodeError:
        body = {}
    prompt_id = body.get("prompt_id")
    was_asked = engine_of(request).queue.interrupt(prompt_id or None)
    _log.info(
        "Interrupting prompt %s: %s", prompt_id or "", "asked" if was_asked else "not running"
    )
    return web.Response()


async def free(request: web.Request) -> web.Response:
    """Drop the cache (`free_memory`) after the prompt that runs. There are no models to unload."""
    body = await request.json()
    if body.get("free_memory", False):
        engine_of(request).queue.ask_free()
    return web.Response()


async def get_history(request: web.Request) -> web.Response:
    """Return what ran, oldest first."""
    query = request.query
    max_items = int(query["max_items"]) if "max_items" in query else None
    offset = int(query["offset"]) if "offset" in query else -1
    entries = engine_of(request).queue.history.page(max_items, offset)
    return web.json_response({entry.prompt_id: entry.to_wire() for entry in entries})


async def get_history_entry(request: web.Request) -> web.Response:
    """Return one prompt that ran; nothing while it runs."""
    entry = engine_of(request).queue.history.get(request.match_info["prompt_id"])
    return web.json_response({} if entry is None else {entry.prompt_id: entry.to_wire()})


async def post_history(request: web.Request) -> web.Response:
    """Forget prompts that ran: all (`clear`) or some (`delete`)."""
    history = engine_of(request).queue.history
    body = await request.json()
    if body.get("clear"):
        history.clear()
    for prompt_id in body.get("delete", ()):
        history.delete(prompt_id)
    return web.Response()
