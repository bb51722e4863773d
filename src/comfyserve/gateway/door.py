"""What the handlers of a door for callers are given beside the gateway: links, signatures, stream slots."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request

from comfyserve.gateway.context import Gateway, Target, gateway_of
from comfyserve.gateway.errors import Refusal
from comfyserve.gateway.signing import LIFETIME_S, UrlSigner

_ASSETS = "/api/v2/assets"
_MOST_STREAMS = 1000
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?", re.ASCII)


@dataclass(slots=True)
class Streams:
    """How many event streams are open."""

    limit: int = _MOST_STREAMS
    open: int = 0

    @property
    def has_room(self) -> bool:
        """Whether another one may be opened."""
        return self.open < self.limit

    def require_room(self) -> None:
        """Raise Refusal `too_many_streams` at the limit."""
        if not self.has_room:
            raise Refusal(
                429,
                "too_many_streams",
                f"{self.open} event streams are open, which is the limit; poll the job instead.",
            )

    @contextmanager
    def counted(self) -> Iterator[None]:
        """One more, while the context lasts."""
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


@dataclass(frozen=True, slots=True)
class Links:
    """Where a deployment's jobs and assets are, as the client of a request sees it."""

    origin: str
    prefix: str
    signer: UrlSigner
    now: float
    base: str = ""

    def job(self, job_id: str, part: str = "") -> str:
        """A job or a part of it, from the host's root."""
        return f"{self.prefix}{self.base}/jobs/{job_id}{part}"

    def content(self, asset_id: str) -> tuple[str, float]:
        """An asset's bytes, absolute and signed, and until when that is good."""
        # Whole minutes, so that the URL does not change with each poll.
        expires_at = (int(self.now) // 60 + 1) * 60 + LIFETIME_S
        query = self.signer.query(asset_id, expires_at)
        path = f"{self.prefix}{_ASSETS}/{asset_id}/content"
        return f"{self.origin}{path}?{query}", float(expires_at)


@dataclass(frozen=True, slots=True)
class Call:
    """One request with all that a handler needs."""

    request: Request
    gateway: Gateway
    target: Target
    links: Links
    streams: Streams
    now: float

    @property
    def deployment_id(self) -> str:
        """The deployment that was addressed."""
        return self.target.deployment.id

    @property
    def principal(self) -> str:
        """Who is asking."""
        name: str = self.request.state.principal.name
        return name

    @property
    def retention_s(self) -> float:
        """How long things are kept; 0: for ever."""
        return self.gateway.settings.retention_s


@dataclass(frozen=True, slots=True)
class DoorParts:
    """What a door itself holds, one for the server. `base` is in front of all of its paths."""

    signer: UrlSigner
    streams: Streams
    base: str = ""

    def call(self, request: Request) -> Call:
        """Gather what a handler needs."""
        gateway = gateway_of(request)
        now = gateway.clock.now()
        return Call(
            request=request,
            gateway=gateway,
            target=request.state.target,
            links=Links(_origin(request), request.state.prefix, self.signer, now, self.base),
            streams=self.streams,
            now=now,
        )


def _origin(request: Request) -> str:
    """Scheme and host as the client wrote them; a proxy with TLS says so."""
    is_secure = "https" in {request.scope["scheme"], request.headers.get("x-forwarded-proto")}
    host = request.headers.get("host", "")
    if _HOST.fullmatch(host) is None:
        name, port = request.scope.get("server") or ("127.0.0.1", 80)
        host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    return f"{'https' if is_secure else 'http'}://{host}"
