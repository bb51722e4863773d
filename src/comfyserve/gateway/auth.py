"""Who is asking: token to principal. Closed by default beyond this machine itself."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qs, urlsplit

from starlette.types import Scope

from comfyserve.domain.errors import Forbidden, Unauthorized
from comfyserve.store.tokens import TokenStore

READ, RUN, ADMIN = "read", "run", "admin"
ANONYMOUS = "anonymous"
_ALL = frozenset({READ, RUN, ADMIN})
_IMPLIED = {ADMIN: _ALL, RUN: frozenset({READ, RUN}), READ: frozenset({READ})}
FORWARDED = frozenset(
    {
        *(b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"forwarded", b"via"),
        *(b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip"),
    }
)
"""What proxies add: a request with one of these does not come from this machine's own user."""
TOKEN_HEADER = b"x-comfyserve-token"
_LOOKED_AT = FORWARDED | {
    TOKEN_HEADER,
    b"authorization",
    b"x-api-key",
    b"host",
    b"origin",
    b"sec-fetch-site",
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller and what it may do. `deployment_id` confines it to one deployment."""

    name: str
    scopes: frozenset[str]
    deployment_id: str | None = None

    def require(self, scope: str, deployment_id: str | None = None) -> None:
        """Raise Forbidden unless this caller has `scope` (on that deployment)."""
        if scope not in self.scopes:
            raise Forbidden(f"this token lacks the scope '{scope}'", code="missing_scope")
        if self.deployment_id is not None and deployment_id != self.deployment_id:
            raise Forbidden("this token is for another deployment", code="wrong_deployment")


LOCAL = Principal("local", _ALL)


def anonymous(deployment_id: str) -> Principal:
    """Anybody, at a deployment that is open to everybody."""
    return Principal(ANONYMOUS, _IMPLIED[RUN], deployment_id)


async def authenticate(scope: Scope, tokens: TokenStore, domain: str) -> Principal:
    """The principal behind a request.

    A token comes as `X-Comfyserve-Token`, `Authorization: Bearer`, `X-API-Key` or `?token=`. Without one, only a direct
    connection from this machine is believed, and only under a host name that no foreign web page
    can make a browser send. Raises Unauthorized or Forbidden.
    """
    shown = {name: value for name, value in scope["headers"] if name in _LOOKED_AT}
    secret = _secret_of(scope, shown)
    if secret is not None:
        token = await tokens.verify(secret)
        if token is None:
            raise Unauthorized("this token is not known, or was revoked")
        granted = frozenset().union(*(_IMPLIED.get(name, frozenset()) for name in token.scopes))
        return Principal(token.id, granted, token.deployment_id)
    client = scope.get("client")
    if client is None or not is_loopback(client[0]) or not FORWARDED.isdisjoint(shown):
        raise Unauthorized(
            "a token is needed: send 'Authorization: Bearer TOKEN' (make one on the server's "
            "machine with `comfyserve token create NAME`)"
        )
    _check_origin(shown, domain)
    return LOCAL


def _secret_of(scope: Scope, shown: Mapping[bytes, bytes]) -> str | None:
    if key := shown.get(TOKEN_HEADER):
        return key.decode("latin-1")
    kind, _, value = shown.get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"bearer" and value:
        return value.strip().decode("latin-1")
    if key := shown.get(b"x-api-key"):
        return key.decode("latin-1")
    query: bytes = scope.get("query_string", b"")
    if b"token=" in query and (found := parse_qs(query.decode("latin-1")).get("token")):
        return found[0]
    return None


def _check_origin(shown: Mapping[bytes, bytes], domain: str) -> None:
    """Refuse what a foreign web page may send to this machine through a visitor's browser."""
    host = _host_of(f"//{shown.get(b'host', b'').decode('latin-1')}")
    is_ours = is_loopback(host) or host == "localhost" or host.endswith(".localhost")
    if not is_ours and not (domain and (host == domain or host.endswith(f".{domain}"))):
        raise Forbidden(
            f"without a token this server answers only to its own names, not to '{host[:80]}'",
            code="forbidden_host",
        )
    origin = shown.get(b"origin")
    is_foreign = origin is not None and _host_of(origin.decode("latin-1")) != host
    if is_foreign or shown.get(b"sec-fetch-site") == b"cross-site":
        raise Forbidden("cross-site requests need a token", code="forbidden_origin")


@lru_cache(maxsize=1024)
def _host_of(url: str) -> str:
    """The host in a URL, without the port; empty where there is none that can be read."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
