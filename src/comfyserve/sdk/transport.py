"""HTTP towards the server, synchronous: one connection a request, errors in our own terms."""

import http.client
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit

from comfyserve import __version__
from comfyserve.domain.errors import InvalidInput
from comfyserve.sdk.errors import ConnectionLost, TimedOut, Unreachable
from comfyserve.sdk.refusals import refusal

Query = Mapping[str, object]

_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `timeout_s` bounds each wait for the network, not the whole exchange.

    A body that comes in pieces is sent as it comes.
    """

    method: str
    path: str
    query: Query = field(default_factory=dict)
    body: bytes | Iterable[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 30.0


class Transport:
    """Sends requests to one server. `url` is http or https, with or without a path in front."""

    def __init__(self, url: str, token: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidInput(
                f"'{url}' is not the address of a server: give http://HOST:PORT or https://HOST "
                "with --url or COMFYSERVE_URL"
            )
        self.url = url.rstrip("/")
        self._is_secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port
        self._prefix = parts.path.rstrip("/")
        self._token = token

    def send(self, request: Request) -> bytes:
        """Return the body of a successful answer.

        Raises Unreachable, TimedOut, and for an HTTP error what it stands for (see `refusals`).
        """
        with self._open(request) as (response, _), self._explained(request):
            return response.read()

    def chunks(self, request: Request) -> Iterator[bytes]:
        """Yield the bytes of an answer as they come. Raises what `send` raises."""
        with self._open(request) as (response, _), self._explained(request):
            while chunk := response.read1(_CHUNK_BYTES):
                yield chunk

    def lines(self, request: Request, waits: Callable[[], float]) -> Iterator[bytes]:
        """Yield the lines of an answer as they come, each awaited for at most `waits()` seconds.

        Raises what `send` raises.
        """
        with self._open(request) as (response, link), self._explained(request):
            link.settimeout(waits())
            while line := response.readline():
                yield line
                link.settimeout(waits())

    @contextmanager
    def _open(self, request: Request) -> Iterator[tuple[http.client.HTTPResponse, socket.socket]]:
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=request.timeout_s)
        try:
            with self._explained(request):
                connection.connect()
                link: socket.socket = connection.sock
                connection.request(
                    request.method, self._target(request), request.body, self._headers(request)
                )
                response = connection.getresponse()
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise refusal(response.status, response.read())
            with response:
                yield response, link
        finally:
            connection.close()

    def _target(self, request: Request) -> str:
        given = {key: value for key, value in request.query.items() if value not in (None, ())}
        text = urlencode(given, doseq=True)
        return f"{self._prefix}{request.path}" + (f"?{text}" if text else "")

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {"User-Agent": f"comfyserve/{__version__}", **request.headers}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    @contextmanager
    def _explained(self, request: Request) -> Iterator[None]:
        """Turn what the network does into errors that say what to do."""
        try:
            yield
        except ConnectionRefusedError as error:
            raise Unreachable(
                f"no server at {self.url}: start one with `comfyserve serve`, or set COMFYSERVE_URL"
            ) from error
        except TimeoutError as error:
            raise TimedOut(
                f"{self.url} did not answer in time ({request.method} {request.path})"
            ) from error
        except socket.gaierror as error:
            raise Unreachable(
                f"there is no host '{self._host}' ({_reason(error)}); check COMFYSERVE_URL"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionLost(
                f"the connection to {self.url} failed: {_reason(error)}; check COMFYSERVE_URL and "
                "that the server runs"
            ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
