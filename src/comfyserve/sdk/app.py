"""`asgi`: a function that makes an ASGI application, as a deployment."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.spec import AppSpec, DeploymentSpec, EngineKind, EngineSpec, check_name
from comfyserve.sdk.amounts import read_count
from comfyserve.sdk.options import Options, read_options
from comfyserve.sdk.request_context import context

if TYPE_CHECKING:
    from comfyserve.sdk.asgi_types import Receive, Scope, Send
    from comfyserve.sdk.image import Image
    from comfyserve.sdk.pod import PodInstance
    from comfyserve.sdk.serving import ServedApp

_OWN = ("name", "image", "concurrent_requests", "workers", "on_start", "inputs")
_READY_PATH = "/.comfyserve/ready"
_Make = Callable[..., object]


def asgi(
    name: str | None = None,
    image: "Image | None" = None,
    *,
    concurrent_requests: int = 1,
    workers: int = 1,
    on_start: Callable[[], object] | None = None,
    inputs: object = None,
    **options: Unpack[Options],
) -> Callable[[_Make], "App"]:
    """Declare an application. The function runs inside replicas only, and returns the application.

    Example:
        @asgi(name="hello", concurrent_requests=4)
        def handler():
            from fastapi import FastAPI
            app = FastAPI()
            @app.get("/")
            def hello() -> str:
                return "hello"
            return app

    `on_start` runs once in each of the `workers`, before the first request; its value is
    `context.on_start_value`. `inputs` is a pydantic model, or a JSON schema, by which the gateway
    checks JSON bodies before anything wakes. See `Options` for the other arguments.
    """
    if callable(name):
        raise InvalidInput("write @asgi(...) with parentheses above the function")
    concurrency = read_count("concurrent_requests", concurrent_requests, least=1)
    read_count("workers", workers, least=1)
    if on_start is not None and not callable(on_start):
        raise InvalidInput(f"on_start is a function, not {on_start!r}; leave the parentheses away")
    surroundings = read_options("asgi", _OWN, options)
    spec = replace(
        surroundings.spec,
        engine=EngineSpec(
            kind=EngineKind.APP,
            env=surroundings.env,
            ready_path=surroundings.ready_path or _READY_PATH,
        ),
        limits=replace(surroundings.spec.limits, concurrency=concurrency),
        inputs=_schema(inputs),
    )

    def declare(make: _Make) -> App:
        chosen = name or getattr(make, "__name__", "").replace("_", "-").lower()
        return App(make, check_name(chosen), image, spec, workers=workers, on_start=on_start)

    return declare


class App:
    """A declared application. It is ASGI itself: `uvicorn api:handler` serves it on the spot."""

    def __init__(
        self,
        make: _Make,
        name: str,
        image: "Image | None",
        spec: DeploymentSpec,
        *,
        workers: int = 1,
        on_start: Callable[[], object] | None = None,
    ) -> None:
        if not inspect.isroutine(make):
            raise InvalidInput(f"@asgi goes above a function that returns an application: {make!r}")
        self.make = make
        self.name = name
        self.image = image
        self.workers = workers
        self.on_start = on_start
        self._spec = spec
        self._served: ServedApp | None = None

    def __repr__(self) -> str:
        return f"<asgi application '{self.name}'>"

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve without a server of ours."""
        if self._served is None:
            self._served = self.local()
        await self._served(scope, receive, send)

    def local(self) -> "ServedApp":
        """The application as it runs in a replica, for tests and for any ASGI server.

        Example: `httpx.AsyncClient(transport=httpx.ASGITransport(handler.local()))`
        """
        from comfyserve.sdk.serving import ServedApp

        return ServedApp(self.make, self.on_start)

    def spec(self, source: str, handler: str, image: str | None = None) -> DeploymentSpec:
        """The spec for code that was uploaded as `source`. Raises InvalidInput."""
        engine = replace(self._spec.engine, app=AppSpec(source, handler, self.workers), image=image)
        spec = replace(self._spec, engine=engine)
        spec.check()
        return spec

    def deploy(self, name: str | None = None) -> "PodInstance":
        """Upload the code around the function, build the image, deploy: a new revision each time.

        The same as `comfyserve deploy api.py:handler`.
        """
        from comfyserve.sdk.deploying import deploy_app
        from comfyserve.sdk.source import source_of

        return deploy_app(self, source_of(self.make), name)


def _schema(inputs: object) -> Mapping[str, Any] | None:
    if inputs is None:
        return None
    if isinstance(inputs, Mapping):
        return dict(inputs)
    read = getattr(inputs, "model_json_schema", None)
    if not inspect.isclass(inputs) or not callable(read):
        raise InvalidInput(f"inputs is a pydantic model or a JSON schema, not {inputs!r}")
    schema: Mapping[str, Any] = read()
    return schema


__all__ = ["App", "asgi", "context"]
