"""How a call wants to be answered, read from its headers and query."""

from typing import Any

import pytest
from starlette.requests import Request

from comfyserve.gateway.errors import Refusal
from comfyserve.gateway.typed.options import LONGEST_WAIT_S, USUAL_WAIT_S, Form, read_options


def request(query: str = "", **headers: str) -> Request:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/run/x",
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), v.encode()) for name, v in headers.items()],
    }
    return Request(scope)


@pytest.mark.parametrize(
    ("accept", "form", "kinds"),
    [
        ("", Form.JOB, ()),
        ("*/*", Form.JOB, ()),
        ("application/json", Form.JOB, ()),
        ("text/event-stream", Form.EVENTS, ()),
        ("image/*", Form.BYTES, ("image",)),
        ("image/png, */*;q=0.1", Form.BYTES, ("image",)),
        ("video/mp4, image/*;q=0.5", Form.BYTES, ("video", "image")),
        ("application/json, image/*;q=0.5", Form.JOB, ()),
        ("image/*;q=0.5, application/json;q=0.4", Form.BYTES, ("image",)),
        ("image/*;q=0, application/json", Form.JOB, ()),
        ("text/html,application/xhtml+xml,*/*;q=0.8", Form.JOB, ()),
        ("\xff;;;,,", Form.JOB, ()),
    ],
)
def test_the_form_is_what_is_wanted_most(accept: str, form: Form, kinds: tuple[str, ...]) -> None:
    scope = request()
    scope.scope["headers"] = [(b"accept", accept.encode("latin-1"))]
    options = read_options(scope)
    assert (options.form, options.kinds) == (form, kinds)
    assert options.wait_s == (LONGEST_WAIT_S if form is Form.BYTES else USUAL_WAIT_S)


@pytest.mark.parametrize(
    ("prefer", "wait_s"),
    [
        ("wait=10", 10.0),
        ("wait=0", 0.0),
        ("respond-async", 0.0),
        ("respond-async, wait=10", 0.0),
        ("handling=lenient; wait = 7", 7.0),
        ("wait=999999", LONGEST_WAIT_S),
        ("wait=-1", USUAL_WAIT_S),
        ("wait=soon", USUAL_WAIT_S),
        ("WAIT=3", 3.0),
    ],
)
def test_the_wait_is_bounded_and_a_preference_that_cannot_be_read_is_none(
    prefer: str, wait_s: float
) -> None:
    assert read_options(request(prefer=prefer)).wait_s == wait_s


def test_labels_come_as_pairs() -> None:
    assert read_options(request("label=a=b&label=c=d=e&token=t")).labels == {"a": "b", "c": "d=e"}
    assert read_options(request("reuse=true")).reuse is True
    assert read_options(request("reuse=0")).reuse is False


@pytest.mark.parametrize(
    "query", ["label=a", "label==b", "steps=1", "reuse=x", "label=a%20=b", "label=a=%00"]
)
def test_what_cannot_be_used_is_refused(query: str) -> None:
    with pytest.raises(Refusal):
        read_options(request(query))
