"""What passes through the plain door, header by header."""

from typing import Any

import pytest

from comfyserve.gateway.auth import LOCAL, Principal
from comfyserve.gateway.plain.call import (
    Call,
    downstream_headers,
    kept_seconds,
    upstream_headers,
)
from comfyserve.testing.store_data import a_deployment

TOKEN = Principal("tk_1", frozenset({"run"}))


def call(
    *headers: tuple[str, str],
    raw: str = "/d/demo/x",
    query: str = "",
    prefix: str = "/d/demo",
    peer: str = "127.0.0.1",
    principal: Principal = LOCAL,
    scheme: str = "http",
) -> Call:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "scheme": scheme,
        "path": raw,
        "raw_path": raw.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "client": (peer, 1234),
    }
    is_ours = principal is not LOCAL
    return Call(scope, a_deployment(name="demo"), principal, prefix, shows_credential=is_ours)


@pytest.mark.parametrize(
    ("raw", "prefix", "target"),
    [
        ("/d/demo/", "/d/demo", "/"),
        ("/d/demo/a%2Fb//c/../d", "/d/demo", "/a%2Fb//c/../d"),
        ("/d/dem%6F/x", "/d/demo", "/x"),
        ("/d/demo/d/demo/", "/d/demo", "/d/demo/"),
        ("/plain", "", "/plain"),
        ("/d/demo/\xe4", "/d/demo", "/%E4"),
    ],
)
def test_the_path_goes_on_as_it_came_without_our_part(raw: str, prefix: str, target: str) -> None:
    assert call(raw=raw, prefix=prefix).target == target


def test_the_token_in_a_query_is_ours_only_if_it_was_believed() -> None:
    query = "a=1&token=secret&b=2"
    assert call(query=query, principal=TOKEN).target == "/x?a=1&b=2"
    assert call(query=query).target == f"/x?{query}"


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        ([("authorization", "Bearer ours")], set()),
        ([("x-api-key", "ours")], set()),
        ([("x-comfyserve-token", "ours"), ("authorization", "Bearer its")], {"authorization"}),
        ([("authorization", "Bearer ours"), ("x-api-key", "its")], {"x-api-key"}),
    ],
)
def test_our_credential_is_taken_off_and_the_servers_own_stays(
    sent: list[tuple[str, str]], left: set[str]
) -> None:
    headers = upstream_headers(call(*sent, principal=TOKEN))
    kept = {
        name for name in ("authorization", "x-api-key", "x-comfyserve-token") if name in headers
    }
    assert kept == left
    assert headers["x-comfyserve-principal"] == "tk_1"


def test_forwarded_headers_are_told_anew() -> None:
    told = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https"), ("host", "pod.example")]
    local = upstream_headers(call(*told))
    assert local.getall("x-forwarded-for") == ["127.0.0.1"]
    assert local["x-forwarded-host"] == "pod.example"
    direct = upstream_headers(call(*told, peer="9.9.9.9", principal=TOKEN))
    assert direct["x-forwarded-for"] == "9.9.9.9"
    assert direct["x-forwarded-proto"] == "http"
    assert upstream_headers(call(scheme="wss"))["x-forwarded-proto"] == "https"


def test_what_the_server_says_to_us_alone_does_not_pass() -> None:
    said = [
        (b"Set-Cookie", b"a"),
        (b"Set-Cookie", b"b"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"close, X-Hop"),
        (b"X-Hop", b"1"),
        (b"X-Comfyserve-Keep-Alive", b"60"),
    ]
    assert downstream_headers(said) == [(b"set-cookie", b"a"), (b"set-cookie", b"b")]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"60", 60.0), ("0.5", 0.5), ("1e9", 86400.0), ("-1", None), ("soon", None), ("nan", None),
     (None, None)],
)  # fmt: skip
def test_a_wish_to_be_kept_is_bounded(value: bytes | str | None, seconds: float | None) -> None:
    assert kept_seconds(value) == seconds
