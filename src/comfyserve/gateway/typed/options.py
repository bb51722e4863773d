"""How a call is to be answered: what its headers and query say beside the inputs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request

from comfyserve.domain.webhook import NewWebhook
from comfyserve.gateway.fields import read_idempotency_key, read_labels
from comfyserve.gateway.job_webhook import read_webhook
from comfyserve.gateway.typed.errors import invalid_request

USUAL_WAIT_S = 5.0
LONGEST_WAIT_S = 120.0
_WAIT = re.compile(r"wait(?:\s*=\s*\"?(\d{1,6})\"?)?")
_RANGE = re.compile(r"([a-z*]+)/([a-z0-9.+*-]+)(?:\s*;\s*q\s*=\s*([01](?:\.\d{0,3})?))?.*")
_KNOWN = frozenset({"label", "reuse", "webhook", "webhook_events"})
_MEDIA = frozenset({"image", "video", "audio"})


class Form(Enum):
    """What the answer is."""

    JOB = auto()
    EVENTS = auto()
    BYTES = auto()


@dataclass(frozen=True, slots=True)
class Options:
    """How a call is to be answered, and what is noted with its job."""

    form: Form
    kinds: tuple[str, ...]
    wait_s: float
    labels: Mapping[str, str]
    key: str | None
    reuse: bool | None
    webhook: NewWebhook | None


def read_options(request: Request) -> Options:
    """Read headers and query. Raises Refusal, naming what cannot be used."""
    query, headers = request.query_params, request.headers
    refuse_unknown_query(query, _KNOWN)
    form, kinds = _read_accept(headers.get("accept", ""))
    # Bytes cannot be given before there are any: who asks for them means to wait.
    usual_s = LONGEST_WAIT_S if form is Form.BYTES else USUAL_WAIT_S
    return Options(
        form=form,
        kinds=kinds,
        wait_s=read_wait(headers, usual_s),
        labels=read_label_options(query),
        key=read_idempotency_key(headers),
        reuse=_read_reuse(query.get("reuse")),
        webhook=read_webhook(request),
    )


def refuse_unknown_query(query: QueryParams, known: frozenset[str]) -> None:
    """Raise Refusal for a query parameter that the route does not have: a typo must not be ignored."""
    for name in query:
        if name not in known and name != "token":
            raise invalid_request(
                f"unknown query parameter '{name[:80]}'; there is: "
                f"{', '.join(sorted(known)) or 'none'}. Inputs go into the body"
            )


def read_wait(headers: Headers, usual_s: float) -> float:
    """Seconds to wait for the end, of `Prefer: wait=10` or `Prefer: respond-async`; bounded."""
    for part in re.split(r"[,;]", headers.get("prefer", "").lower()):
        text = part.strip()
        if text == "respond-async":
            return 0.0
        if (found := _WAIT.fullmatch(text)) is not None and found[1] is not None:
            return min(float(found[1]), LONGEST_WAIT_S)
    return usual_s


def read_label_options(query: QueryParams) -> Mapping[str, str]:
    """`label=KEY=VALUE`, any number of them. Raises Refusal `metadata_invalid`."""
    labels: dict[str, str] = {}
    for text in query.getlist("label"):
        key, equals, value = text.partition("=")
        if not equals:
            raise invalid_request(
                f"label must be KEY=VALUE, not '{text[:80]}'", code="invalid_label"
            )
        labels[key] = value
    return read_labels(labels, "label")


def _read_reuse(text: str | None) -> bool | None:
    if text is None:
        return None
    if text.lower() in {"1", "true", ""}:
        return True
    if text.lower() in {"0", "false"}:
        return False
    raise invalid_request(f"reuse must be true or false, not '{text[:80]}'")


def _read_accept(text: str) -> tuple[Form, tuple[str, ...]]:
    """The form that the caller wants most; JSON where it does not say."""
    wanted: list[tuple[float, int, str, str]] = []
    for place, part in enumerate(text.lower().split(",")[:32]):
        if (found := _RANGE.fullmatch(part.strip())) is not None:
            weight = float(found[3]) if found[3] else 1.0
            if weight > 0:
                wanted.append((-weight, place, found[1], found[2]))
    for _, _, kind, subtype in sorted(wanted):
        if (kind, subtype) == ("text", "event-stream"):
            return Form.EVENTS, ()
        if kind in _MEDIA:
            kinds = tuple(dict.fromkeys(each[2] for each in sorted(wanted) if each[2] in _MEDIA))
            return Form.BYTES, kinds
        if kind == "*" or (kind, subtype) in {("application", "json"), ("application", "*")}:
            break
    return Form.JOB, ()
