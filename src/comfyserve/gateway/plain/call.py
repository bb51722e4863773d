"""One request to a plain deployment: what goes on to its server, and what comes back. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from multidict import CIMultiDict
from starlette.types import Scope

from comfyserve.domain.deployment import Deployment
from comfyserve.gateway.auth import TOKEN_HEADER, Principal

Headers = Sequence[tuple[bytes, bytes]]

KEEP_ALIVE = "x-comfyserve-keep-alive"
LONGEST_KEEP_S = 24 * 3600.0
_HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate",
        b"proxy-authorization", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
_OURS = b"x-comfyserve-"
_FORWARDED = (b"x-forwarded-", b"forwarded", b"x-real-ip")
_UNRESERVED = "/:?#[]@!$&'()*+,;=-._~%|^`{}\"<>\\"


@dataclass(frozen=True, slots=True)
class Call:
    """A request with whom it is from and for; `prefix` is what its path had in front."""

    scope: Scope
    deployment: Deployment
    principal: Principal
    prefix: str
    shows_credential: bool
    """Whether the caller's credential is ours: then the server does not see it."""

    @property
    def headers(self) -> Headers:
        """The request's headers, as they came."""
        headers: Headers = self.scope["headers"]
        return headers

    def header(self, name: bytes) -> bytes | None:
        """The value of a header; None if it is not there."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def has_body(self) -> bool:
        """Whether a body follows the headers."""
        length = self.header(b"content-length")
        return self.header(b"transfer-encoding") is not None or length not in {None, b"0"}

    @property
    def target(self) -> str:
        """Path and query for the server, byte for byte as they came, without our part of them."""
        raw: bytes = self.scope.get("raw_path") or quote(self.scope["path"]).encode()
        path = _without_prefix(raw, self.prefix)
        query: bytes = self.scope.get("query_string", b"")
        if self.shows_credential:
            query = b"&".join(p for p in query.split(b"&") if not p.startswith(b"token="))
        return _ascii(path) + (f"?{_ascii(query)}" if query else "")


def upstream_headers(call: Call) -> CIMultiDict[str]:
    """What the server is sent: hop-by-hop headers and our credentials are gone, the rest stays.

    Forwarded headers are told anew: those of proxies that are believed are in the scope already.
    """
    peer = (call.scope.get("client") or ("", 0))[0]
    dropped = _HOP_BY_HOP | _named_by_connection(call.headers)
    dropped |= {b"expect", TOKEN_HEADER}
    if call.shows_credential:
        dropped |= _credentials(call.headers)
    sent: CIMultiDict[str] = CIMultiDict()
    for name, value in call.headers:
        if name in dropped or name.startswith((_OURS, *_FORWARDED)):
            continue
        sent.add(name.decode("latin-1"), value.decode("utf-8", "replace"))
    sent["X-Forwarded-For"] = peer
    scheme: str = call.scope["scheme"].replace("ws", "http")
    sent["X-Forwarded-Proto"] = scheme
    sent["X-Forwarded-Host"] = sent.get("Host", "")
    if call.prefix:
        sent["X-Forwarded-Prefix"] = call.prefix
    sent["X-Comfyserve-Principal"] = call.principal.name
    sent["X-Comfyserve-Deployment"] = call.deployment.name
    return sent


def downstream_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What the caller is sent of a server's headers: all but what was meant for us."""
    lowered = [(name.lower(), value) for name, value in headers]
    dropped = _HOP_BY_HOP | _named_by_connection(lowered) | {KEEP_ALIVE.encode()}
    return [(name, value) for name, value in lowered if name not in dropped]


def kept_seconds(value: str | bytes | None) -> float | None:
    """Seconds in a keep-alive header; None if there is none that makes sense."""
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return min(seconds, LONGEST_KEEP_S) if seconds > 0 else None


def _credentials(headers: Headers) -> frozenset[bytes]:
    """The header that the caller's credential was read from: the first of those there are."""
    names = {name for name, _ in headers}
    for name in (TOKEN_HEADER, b"authorization", b"x-api-key"):
        if name in names:
            return frozenset({name})
    return frozenset()


def _named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    return frozenset(
        part.strip().lower()
        for name, value in headers
        if name == b"connection"
        for part in value.split(b",")
    )


def _without_prefix(raw: bytes, prefix: str) -> bytes:
    """The path inside the deployment; its name may have come escaped."""
    parts = raw.split(b"/", 3)
    if not prefix or len(parts) < 4 or unquote_to_bytes(b"/".join(parts[:3])).decode() != prefix:
        return raw
    return b"/" + parts[3]


def _ascii(raw: bytes) -> str:
    return raw.decode("ascii") if raw.isascii() else quote(raw, safe=_UNRESERVED)
