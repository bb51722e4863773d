"""The webhook that comes with a job: the same at every door, as query or as header."""

from starlette.requests import Request

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.webhook import NewWebhook, read_events
from comfyserve.gateway.context import gateway_of

HEADER = "x-comfyserve-webhook"
EVENTS_HEADER = "x-comfyserve-webhook-events"
_MARK = HEADER.encode()


def read_webhook(request: Request) -> NewWebhook | None:
    """Who is to be told of the job of this request: `?webhook=URL`, or a header; its events after it.

    Raises UrlRefused and InvalidInput before anything is stored.
    """
    scope = request.scope
    if not scope["query_string"] and not any(key.startswith(_MARK) for key, _ in scope["headers"]):
        return None
    query, headers = request.query_params, request.headers
    url = query.get("webhook") or headers.get(HEADER)
    events = query.get("webhook_events") or headers.get(EVENTS_HEADER) or ""
    if url is None:
        if events:
            raise InvalidInput("events of a webhook are named, but no webhook", code="no_webhook")
        return None
    return NewWebhook(
        url=gateway_of(request).outside.policy.judge_url(url),
        events=read_events(filter(str.strip, events.split(","))),
        base_url=str(request.base_url).rstrip("/"),
        principal=request.state.principal.name,
    )
