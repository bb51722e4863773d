"""Who is asking: closed by default, and no foreign web page can borrow a visitor's machine."""

import pytest

from comfyserve.domain.errors import Forbidden, Unauthorized
from comfyserve.gateway.auth import ADMIN, LOCAL, READ, RUN, Principal, authenticate
from comfyserve.store import Store
from comfyserve.store.tokens import Scope, TokenStore

Headers = dict[str, str]


class NoTokens:
    """Where no token was ever made."""

    async def verify(self, secret: str) -> None:
        """Nobody is known."""


NONE = NoTokens()


async def asks(
    tokens: TokenStore | NoTokens,
    headers: Headers,
    *,
    peer: str | None = "127.0.0.1",
    query: str = "",
    domain: str = "",
) -> Principal:
    scope = {
        "type": "http",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": None if peer is None else (peer, 5000),
        "query_string": query.encode(),
    }
    return await authenticate(scope, tokens, domain)  # type: ignore[arg-type] # all that it uses of a store


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1"])
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost:8000", "[::1]:8000", "demo.localhost:80"]
)
async def test_this_machine_needs_no_token(peer: str, host: str) -> None:
    assert await asks(NONE, {"host": host}, peer=peer) is LOCAL


@pytest.mark.parametrize(
    "peer", ["10.0.0.7", "192.168.1.2", "8.8.8.8", "2001:db8::1", "unix:", None]
)
async def test_anybody_else_needs_one(peer: str | None) -> None:
    with pytest.raises(Unauthorized, match="a token is needed"):
        await asks(NONE, {"host": "127.0.0.1:8000"}, peer=peer)


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded", "x-real-ip"])
async def test_a_proxy_on_this_machine_is_not_this_machine(name: str) -> None:
    with pytest.raises(Unauthorized):
        await asks(NONE, {"host": "localhost", name: "1.2.3.4"})


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:8000", "localhost.evil.test", "10.0.0.7", "", "[::1", "a@b:c"]
)
async def test_a_name_that_somebody_else_may_point_here_is_refused(host: str) -> None:
    """A web page can have its own name lead to 127.0.0.1 (DNS rebinding)."""
    with pytest.raises(Forbidden) as refusal:
        await asks(NONE, {"host": host})
    assert refusal.value.code == "forbidden_host"
    with pytest.raises(Forbidden):
        await asks(NONE, {})


async def test_the_servers_own_domain_is_its_name() -> None:
    for host in ("gpu.test", "demo.gpu.test:443"):
        assert await asks(NONE, {"host": host}, domain="gpu.test") is LOCAL
    with pytest.raises(Forbidden):
        await asks(NONE, {"host": "evilgpu.test"}, domain="gpu.test")


@pytest.mark.parametrize(
    "origin", ["https://evil.test", "null", "http://localhost.evil.test", "http://[::1", "", "x"]
)
async def test_a_foreign_page_is_refused(origin: str) -> None:
    with pytest.raises(Forbidden, match="cross-site") as refusal:
        await asks(NONE, {"host": "localhost:8000", "origin": origin})
    assert refusal.value.code == "forbidden_origin"


async def test_pages_of_this_machine_are_not_foreign() -> None:
    for headers in (
        {"origin": "http://localhost:8000"},
        {"origin": "http://localhost:3000"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ):
        assert await asks(NONE, {"host": "localhost:8000", **headers}) is LOCAL
    with pytest.raises(Forbidden):
        await asks(NONE, {"host": "localhost", "sec-fetch-site": "cross-site"})


@pytest.mark.parametrize("way", ["bearer", "key", "query"])
async def test_a_token_is_enough_from_anywhere(store: Store, way: str) -> None:
    token, secret = await store.tokens.create("ci", frozenset({Scope.RUN}), None, 1.0)
    headers, query = {
        "bearer": ({"authorization": f"bearer {secret}"}, ""),
        "key": ({"x-api-key": secret}, ""),
        "query": ({}, f"clientId=a&token={secret}"),
    }[way]
    foreign = {"host": "evil.test", "origin": "https://evil.test", "x-forwarded-for": "1.2.3.4"}
    principal = await asks(store.tokens, {**foreign, **headers}, peer="8.8.8.8", query=query)
    assert (principal.name, principal.deployment_id) == (token.id, None)
    assert principal.scopes == {READ, RUN}


@pytest.mark.parametrize(
    ("granted", "may"),
    [
        ({Scope.READ}, {READ}),
        ({Scope.RUN}, {READ, RUN}),
        ({Scope.ADMIN}, {READ, RUN, ADMIN}),
        (set(), set()),
    ],
)
async def test_a_scope_brings_the_lesser_ones_along(
    store: Store, granted: set[Scope], may: set[str]
) -> None:
    _, secret = await store.tokens.create("ci", frozenset(granted), None, 1.0)
    principal = await asks(store.tokens, {"x-api-key": secret})
    assert principal.scopes == may


async def test_a_token_that_is_unknown_or_revoked_is_worth_less_than_none(store: Store) -> None:
    token, secret = await store.tokens.create("ci", frozenset({Scope.ADMIN}), None, 1.0)
    await store.tokens.revoke(token.id, 2.0)
    for wrong in (secret, "guess", "ä" * 100):
        with pytest.raises(Unauthorized, match="not known"):
            await asks(store.tokens, {"host": "localhost", "x-api-key": wrong})


async def test_an_empty_credential_is_none() -> None:
    for headers in ({"authorization": "Bearer "}, {"authorization": "Basic x"}, {"x-api-key": ""}):
        assert await asks(NONE, {"host": "localhost", **headers}, query="token=") is LOCAL


async def test_a_token_of_one_deployment_is_for_that_one(store: Store) -> None:
    _, secret = await store.tokens.create("ci", frozenset({Scope.RUN}), "dp_1", 1.0)
    principal = await asks(store.tokens, {"x-api-key": secret})
    principal.require(RUN, "dp_1")
    for other in ("dp_2", None):
        with pytest.raises(Forbidden) as refusal:
            principal.require(RUN, other)
        assert refusal.value.code == "wrong_deployment"
    with pytest.raises(Forbidden, match="lacks the scope 'admin'") as refusal:
        principal.require(ADMIN, "dp_1")
    assert refusal.value.code == "missing_scope"


def test_this_machine_may_do_everything() -> None:
    for scope in (READ, RUN, ADMIN):
        LOCAL.require(scope)
        LOCAL.require(scope, "dp_1")
