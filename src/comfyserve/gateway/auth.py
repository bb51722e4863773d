"""Who is asking: token to principal. Closed by default beyond this machine itself."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from comfyserve.domain.errors import Forbidden, Unauthorized
from comfyserve.store.tokens import TokenStore

READ, RUN, ADMIN = "read", "run", "admin"
_ALL = frozenset({READ, RUN, ADMIN})
_IMPLIED = {ADMIN: _ALL, RUN: frozenset({READ, RUN}), READ: frozenset({READ})}
_FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip")


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


async def authenticate(scope: Scope, tokens: TokenStore, domain: str) -> Principal:
    """The principal behind a request.

    A token comes as `Authorization: Bearer`, `X-API-Key` or `?token=`. Without one, only a direct
    connection from this machine is believed, and only under a host name that no foreign web page
    can make a browser send. Raises Unauthorized or Forbidden.
    """
    headers = Headers(scope=scope)
    secret = _secret_of(scope, headers)
    if secret is not None:
        token = await tokens.verify(secret)
        if token is None:
            raise Unauthorized("this token is not known, or was revoked")
        granted = frozenset().union(*(_IMPLIED.get(name, frozenset()) for name in token.scopes))
        return Principal(token.id, granted, token.deployment_id)
    if not _is_direct_and_local(scope, headers):
        raise Unauthorized(
            "a token is needed: send 'Authorization: Bearer TOKEN' (make one on the server's "
            "machine with `comfyserve token create NAME`)"
        )
    _check_origin(headers, domain)
    return LOCAL


def _secret_of(scope: Scope, headers: Headers) -> str | None:
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and value:
        return value.strip()
    if key := headers.get("x-api-key"):
        return key
    query: bytes = scope.get("query_string", b"")
    if b"token=" in query and (found := parse_qs(query.decode("latin-1")).get("token")):
        return found[0]
    return None


def _is_direct_and_local(scope: Scope, headers: Headers) -> bool:
    """Whether the peer is this machine itself and not a proxy on it."""
    client = scope.get("client")
    if client is None or any(name in headers for name in _FORWARDED):
        return False
    return _is_loopback(client[0])


def _check_origin(headers: Headers, domain: str) -> None:
    """Refuse what a foreign web page may send to this machine through a visitor's browser."""
    host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    is_ours = _is_loopback(host) or host == "localhost" or host.endswith(".localhost")
    if not is_ours and not (domain and (host == domain or host.endswith(f".{domain}"))):
        raise Forbidden(
            f"without a token this server answers only to its own names, not to '{host[:80]}'",
            code="forbidden_host",
        )
    origin = headers.get("origin")
    is_foreign = origin is not None and urlsplit(origin).hostname != host
    if is_foreign or headers.get("sec-fetch-site") == "cross-site":
        raise Forbidden("cross-site requests need a token", code="forbidden_origin")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
