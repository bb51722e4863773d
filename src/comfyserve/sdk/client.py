"""A client of the control API for declarations; sync, and nothing kept open."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from comfyserve.domain.spec import DeploymentSpec
from comfyserve.sdk._core import SLACK_S, Deployed, read_deployed, read_object, spec_json
from comfyserve.sdk.local_server import LocalServer, ensure_local
from comfyserve.sdk.servers import find_server
from comfyserve.sdk.talk import say
from comfyserve.sdk.transport import Query, Request, Transport
from comfyserve.settings import load_settings

_API = "/api/v1"
_DAY_S = 24 * 3600.0
_UPLOAD_S = 300.0


def connect(url: str | None = None, token: str | None = None) -> "Client":
    """A client of the server that is meant; where none is, of one started in the background.

    Raises ServerFailed with the end of its log if that one cannot start.
    """
    server = find_server(url, token)
    if server is not None:
        return Client(Transport(server.url, server.token))
    settings = load_settings(url=url, token=token)
    return Client(Transport(ensure_local(settings, _introduce).url, settings.token))


class Client:
    """One server. Every method raises the errors of `Transport.send`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._transport.url

    def deploy(self, name: str, spec: DeploymentSpec) -> Deployed:
        """Create a deployment or give it a new revision; its engine starts once meanwhile."""
        request = Request(
            "PUT",
            _path("deployments", name),
            body=spec_json(spec),
            headers=_JSON,
            timeout_s=spec.timeouts.start_s + SLACK_S,
        )
        return read_deployed(self._transport.send(request))

    def deployment(self, name: str) -> Deployed:
        """One deployment. Raises NotFound."""
        return read_deployed(self._transport.send(Request("GET", _path("deployments", name))))

    def change(self, name: str, verb: str) -> Deployed:
        """Apply `stop`, `start` or `warm`."""
        request = Request("POST", _path("deployments", name, verb), timeout_s=60)
        return read_deployed(self._transport.send(request))

    def delete(self, name: str) -> None:
        """Delete a deployment, with its replicas."""
        self._transport.send(Request("DELETE", _path("deployments", name), timeout_s=60))

    def logs(self, name: str, *, tail: int, follow: bool) -> Iterator[bytes]:
        """Yield the log of a deployment's newest replica."""
        query = {"tail": tail, "follow": "true" if follow else None}
        timeout_s = _DAY_S if follow else 30.0
        yield from self._transport.chunks(
            Request("GET", _path("deployments", name, "logs"), query, timeout_s=timeout_s)
        )

    def upload_source(self, archive: bytes | Iterable[bytes]) -> str:
        """Store a tar of user code; return its digest."""
        request = Request(
            "POST",
            f"{_API}/sources",
            body=archive,
            headers={"Content-Type": "application/x-tar"},
            timeout_s=_UPLOAD_S,
        )
        return str(read_object(self._transport.send(request), "a source")["digest"])

    def get(self, path: str, query: Query | None = None) -> Mapping[str, Any]:
        """An object of the control API."""
        return read_object(self._transport.send(Request("GET", _API + path, query or {})), path)

    def post(self, path: str, body: bytes, *, timeout_s: float = 60.0) -> Mapping[str, Any]:
        """Send JSON to the control API; return the object that it answers."""
        request = Request("POST", _API + path, body=body, headers=_JSON, timeout_s=timeout_s)
        return read_object(self._transport.send(request), path)

    def stream(self, path: str, query: Query | None = None) -> Iterator[bytes]:
        """Yield what the control API streams."""
        yield from self._transport.chunks(
            Request("GET", _API + path, query or {}, timeout_s=_DAY_S)
        )


_JSON = {"Content-Type": "application/json"}


def _path(*parts: str) -> str:
    return "/".join([_API, *(quote(part, safe="") for part in parts)])


def _introduce(server: LocalServer) -> None:
    say(
        f"no server is configured, so one was started in the background: {server.url}, home "
        f"{server.home}, log {server.log}. `comfyserve server stop` ends it; COMFYSERVE_URL names "
        "another."
    )
