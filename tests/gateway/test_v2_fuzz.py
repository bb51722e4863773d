"""Whatever is sent to Comfy API v2, the answer is in its envelope and never a 5xx."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.e2e.server_process import picture
from tests.gateway.v2_door import Answer, Door, form, unused_port, v2_door

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    home = tmp_path_factory.mktemp("v2") / "home"
    with v2_door(home, unused_port(), scaling={"idle_timeout_s": 5}) as door:
        yield door


fuzzed = settings(max_examples=120, suppress_health_check=list(HealthCheck))
texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=40)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
assets = st.fixed_dictionaries(
    {"__type": st.just("core/ASSET")}, optional={"info": st.fixed_dictionaries({"id": values})}
)
links = st.tuples(st.sampled_from(["1", "2", "9"]), st.integers(-2, 3)).map(list)
nodes = st.fixed_dictionaries(
    {},
    optional={
        "class_type": st.sampled_from(["EmptyImage", "SaveImage", "LoadImage"]) | values,
        "inputs": st.dictionaries(
            st.sampled_from(["image", "images", "width", "filename_prefix"]) | texts,
            values | assets | links,
            max_size=4,
        )
        | values,
        "_meta": values,
    },
)
workflows = (
    st.dictionaries(
        st.sampled_from(["1", "2", "nodes", "links"]) | texts, nodes | values, max_size=4
    )
    | values
)
bodies = (
    st.fixed_dictionaries(
        {"workflow": workflows},
        optional={
            "metadata": st.dictionaries(texts, texts, max_size=3) | values,
            "extra_data": values,
            "inputs": values,
        },
    )
    | values
)
names = st.sampled_from(["jobs", "assets"])
segments = texts | st.sampled_from(["from-hash", "by-hash", "blake3:" + "0" * 64, "..", "%2e%2e"])
paths = st.tuples(names, st.lists(segments, max_size=3)).map(
    lambda parts: "/" + "/".join([parts[0], *(quote(part, safe="%") for part in parts[1])])
)


def check(answer: Answer) -> None:
    assert answer.status < 500, answer.body
    if answer.status >= 400 and answer.body:
        assert answer.refusal


@fuzzed
@given(body=bodies)
def test_any_job(door: Door, body: Any) -> None:
    check(door.call("POST", "/jobs", body))


@fuzzed
@given(body=values)
def test_any_reference(door: Door, body: Any) -> None:
    check(door.call("POST", "/assets/from-hash", body))
    check(door.call("POST", "/assets/from-hash", {"hash": "blake3:" + "0" * 64, "tags": body}))


@fuzzed
@given(
    fields=st.dictionaries(
        st.sampled_from(["content_type", "file_path", "expires_in", "tags", "expected_hash"]),
        texts.filter(lambda text: "\r" not in text and "\n" not in text),
    ),
    cut=st.integers(0, 80),
    data=st.none() | st.binary(max_size=50),
)
def test_any_upload(door: Door, fields: dict[str, str], cut: int, data: bytes | None) -> None:
    body, content_type = form(fields, data, "x.png", cut=cut)
    check(door.call("POST", "/assets", body, {"Content-Type": content_type}))


@fuzzed
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
    path=paths,
    query=texts,
    key=st.none()
    | st.text(
        st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=300
    ),
)
def test_any_address(door: Door, method: str, path: str, query: str, key: str | None) -> None:
    headers = {} if key is None else {"Idempotency-Key": key}
    body = b"" if method in {"POST", "PUT", "PATCH"} else None
    check(door.call(method, f"{path}?{quote(query, safe='=&[]')}", body, headers))


@fuzzed
@given(
    names=st.lists(st.sampled_from(["metadata[a]", "metadata", "limit", "cursor"]), max_size=4),
    value=texts,
)
def test_any_list(door: Door, names: list[str], value: str) -> None:
    query = "&".join(f"{name}={quote(value)}" for name in names)
    check(door.call("GET", f"/jobs?{query}"))


def test_it_still_works(door: Door) -> None:
    assert door.ended(door.submit(picture(1))["id"])["status"] == "succeeded"
