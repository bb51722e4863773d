"""Whose request is served right now: known to the code that serves it, and to nobody else."""

from contextvars import ContextVar
from dataclasses import dataclass

from comfyserve.domain.errors import NotReady


@dataclass(frozen=True, slots=True)
class Served:
    """One request of an application. `base_url` is how its caller reaches the server."""

    request_id: str = ""
    base_url: str = ""
    on_start_value: object = None


CURRENT: ContextVar[Served | None] = ContextVar("comfyserve_request", default=None)
"""Set around each request; tasks and threads started from it inherit it."""


class Context:
    """What the code of an application may know of the request that it serves.

    Example:
        @asgi(name="hello", on_start=load)
        def handler():
            async def app(scope, receive, send):
                model = context.on_start_value
                ...
            return app
    """

    __slots__ = ()

    @property
    def request_id(self) -> str:
        """The id of the request; empty where none is served, as in `on_start`."""
        served = CURRENT.get()
        return "" if served is None else served.request_id

    @property
    def base_url(self) -> str:
        """Scheme, host and port under which the caller reached the server; empty without a request."""
        served = CURRENT.get()
        return "" if served is None else served.base_url

    @property
    def on_start_value(self) -> object:
        """What `on_start` returned in this worker. Raises NotReady outside of an application."""
        served = CURRENT.get()
        if served is None:
            raise NotReady(
                "on_start_value is there while an application is made or serves a request"
            )
        return served.on_start_value


context = Context()
"""The request that is served right now."""
