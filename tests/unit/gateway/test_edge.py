"""In front of the gateway: forwarded headers count only from trusted proxies, and never make local."""

from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from comfyserve.domain.errors import ComfyserveError, Unauthorized
from comfyserve.domain.public import parse_networks
from comfyserve.gateway.auth import LOCAL, Principal, authenticate
from comfyserve.gateway.edge import ASK_PATH, LOOPBACK, Behind, Edge, Redirect

PROXY, STRANGER, SELF = "10.0.0.7", "198.51.100.4", "127.0.0.1"
TRUSTED = parse_networks("10.0.0.0/8,127.0.0.1")


class Seen:
    """An application that keeps what it was called with, and whom it would take the caller for."""

    scope: Scope
    principal: Principal | type[ComfyserveError] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        try:
            self.principal = await authenticate(scope, None, "gpu.test")  # type: ignore[arg-type] # no token is shown
        except ComfyserveError as error:
            self.principal = type(error)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"app"})


async def call(app: Any, client: str, path: str = "/", kind: str = "http", **headers: str) -> Any:
    given = {"host": "127.0.0.1:8000", **{k.replace("_", "-"): v for k, v in headers.items()}}
    path, _, query = path.partition("?")
    scope = {
        "type": kind,
        "scheme": {"http": "http", "websocket": "ws"}[kind],
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": (client, 4711),
        "server": ("127.0.0.1", 8000),
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def test_a_trusted_proxy_is_believed() -> None:
    seen = Seen()
    told = {
        "x_forwarded_for": f"{SELF}, {STRANGER}",
        "x_forwarded_proto": "https",
        "x_forwarded_host": "other.gpu.test",
        "host": "demo.gpu.test",
    }
    await call(Edge(seen, TRUSTED), PROXY, **told)
    assert seen.scope["client"] == (STRANGER, 0)
    assert seen.scope["scheme"] == "https"
    assert [value for name, value in seen.scope["headers"] if name == b"host"] == [b"demo.gpu.test"]
    assert seen.principal is Unauthorized
    await call(Edge(seen, TRUSTED), PROXY, kind="websocket", **told)
    assert seen.scope["scheme"] == "wss"


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        (STRANGER, {"x_forwarded_for": SELF, "x_forwarded_proto": "https"}),
        (STRANGER, {"x_real_ip": SELF}),
        (PROXY, {"x_forwarded_for": SELF}),
        (PROXY, {}),
        (SELF, {}),
        (SELF, {"x_forwarded_for": SELF}),
        (SELF, {"via": "1.1 proxy"}),
    ],
)
async def test_nobody_who_came_through_or_as_a_proxy_is_this_machines_user(
    client: str, headers: dict[str, str]
) -> None:
    seen = Seen()
    await call(Edge(seen, TRUSTED), client, **headers)
    assert seen.principal is Unauthorized
    if client == STRANGER:
        assert (seen.scope["client"][0], seen.scope["scheme"]) == (STRANGER, "http")


async def test_without_proxies_this_machines_user_needs_no_token() -> None:
    seen = Seen()
    await call(Edge(seen), SELF)
    assert seen.principal == LOCAL


async def test_any_sign_of_a_proxy_asks_for_a_token() -> None:
    seen = Seen()
    await call(Edge(seen), SELF, x_forwarded_host="x")
    assert seen.principal is Unauthorized


async def test_hsts_is_said_over_https_alone() -> None:
    edge = Edge(Seen(), TRUSTED, hsts_s=300)
    start, _ = await call(edge, PROXY, x_forwarded_for=STRANGER, x_forwarded_proto="https")
    assert dict(start["headers"])[b"strict-transport-security"] == b"max-age=300; includeSubDomains"
    start, _ = await call(edge, STRANGER)
    assert start["headers"] == []


async def test_caddy_alone_may_ask_for_certificates() -> None:
    behind = Behind(Edge(Seen(), LOOPBACK), "gpu.test", lambda: {"demo"})
    for name, status in (("demo.gpu.test", 200), ("gpu.test", 200), ("evil.test", 404), ("", 404)):
        start, _ = await call(behind, SELF, f"{ASK_PATH}?domain={name}")
        assert start["status"] == status, name
    _, body = await call(behind, SELF, f"{ASK_PATH}?domain=gpu.test", x_forwarded_for=STRANGER)
    assert body["body"] == b"app", "who comes from outside meets the application"


async def test_http_leads_to_https_for_our_names_alone() -> None:
    app = Redirect("gpu.test", 8443)
    start, *_ = await call(app, STRANGER, "/view?a=%2F", host="Demo.gpu.test:8080")
    assert start["status"] == 308
    assert dict(start["headers"])[b"location"] == b"https://demo.gpu.test:8443/view?a=%2F"
    start, *_ = await call(app, STRANGER, "//evil.test/x", host="gpu.test")
    assert dict(start["headers"])[b"location"] == b"https://gpu.test:8443//evil.test/x"
    start, *_ = await call(app, STRANGER, "/", host="evil.test")
    assert start["status"] == 421
    (closed,) = await call(app, STRANGER, "/ws", kind="websocket", host="gpu.test")
    assert closed["code"] == 1008
