"""An application as it is served: its start, its lifespan, and a context of its own per request."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette

from comfyserve import App, asgi, context
from comfyserve.domain.errors import InvalidInput, NotReady
from comfyserve.sdk.asgi_types import Message, Receive, Scope, Send


async def call(app: Any, path: str = "/", **headers: str) -> tuple[int, str]:
    """One exchange without a socket."""
    sent: list[Message] = []
    named = [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": named, "scheme": "http"}
    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"].decode()


async def live(app: Any) -> list[str]:
    """A lifespan from start to end; what was answered."""
    asked = iter(["lifespan.startup", "lifespan.shutdown"])
    answers: list[str] = []

    async def receive() -> Message:
        return {"type": next(asked)}

    async def send(message: Message) -> None:
        answers.append(message["type"].removeprefix("lifespan.") + message.get("message", ""))

    await app({"type": "lifespan"}, receive, send)
    return answers


def declared(body: Callable[[], str], **options: Any) -> App:
    @asgi(name="test", **options)
    def handler() -> Any:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["type"] == "http"
            await asyncio.sleep(0)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body().encode()})

        return app

    return handler


async def test_on_start_runs_once_and_its_value_is_there() -> None:
    starts: list[int] = []

    def on_start() -> str:
        starts.append(1)
        return "loaded"

    app = declared(lambda: str(context.on_start_value), on_start=on_start).local()
    answers = await asyncio.gather(*(call(app) for _ in range(5)))
    assert set(answers) == {(200, "loaded")}
    assert starts == [1]


async def test_on_start_may_be_a_coroutine_and_the_handler_may_take_the_context() -> None:
    async def on_start() -> int:
        return 42

    @asgi(name="test", on_start=on_start)
    async def handler(given: Any) -> Any:
        value = given.on_start_value
        return declared(lambda: str(value)).local()

    assert await call(handler.local()) == (200, "42")


async def test_each_request_has_its_own_context() -> None:
    app = declared(lambda: context.request_id).local()
    ids = [f"r-{number}" for number in range(20)]
    answers = await asyncio.gather(*(call(app, x_request_id=each) for each in ids))
    assert [text for _, text in answers] == ids
    assert context.request_id == ""
    with pytest.raises(NotReady):
        _ = context.on_start_value


async def test_a_request_without_a_usable_id_gets_one() -> None:
    app = declared(lambda: context.request_id).local()
    first, second = await call(app), await call(app, x_request_id="x" * 500)
    assert len(first[1]) == len(second[1]) == 32
    assert first != second


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"host": "127.0.0.1:8000"}, "http://127.0.0.1:8000"),
        (
            {"host": "x", "x_forwarded_host": "gpu.example.com", "x_forwarded_proto": "https"},
            "https://gpu.example.com",
        ),
        ({}, ""),
    ],
)
async def test_the_callers_way_to_the_server_is_known(headers: dict[str, str], base: str) -> None:
    assert (await call(declared(lambda: context.base_url), **headers))[1] == base


async def test_readiness_does_not_reach_the_application() -> None:
    app = declared(lambda: pytest.fail("it was asked")).local()
    assert await call(app, "/.comfyserve/ready") == (200, '{"status": "ready"}')


async def test_an_application_without_a_lifespan_serves_all_the_same() -> None:
    assert await live(declared(lambda: "").local()) == ["startup.complete", "shutdown.complete"]


async def test_an_application_that_takes_anything_for_a_request_serves_too() -> None:
    @asgi(name="test")
    def handler() -> Any:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"hi"})

        return app

    assert await live(handler.local()) == ["startup.complete", "shutdown.complete"]
    assert await call(handler.local()) == (200, "hi")


async def test_an_applications_own_lifespan_is_used() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        seen.append("up")
        yield
        seen.append("down")

    @asgi(name="test")
    def handler() -> Any:
        return Starlette(lifespan=lifespan)

    assert await live(handler.local()) == ["startup.complete", "shutdown.complete"]
    assert seen == ["up", "down"]


async def test_a_start_that_fails_is_told_with_its_traceback() -> None:
    def on_start() -> None:
        raise ValueError("no weights")

    (answer,) = await live(declared(lambda: "", on_start=on_start).local())
    assert answer.startswith("startup.failed")
    assert "ValueError: no weights" in answer
    assert "on_start" in answer


@pytest.mark.parametrize("made", [None, 3, "app", {}, lambda: None, object])
async def test_a_handler_that_makes_no_application_says_what_it_made(made: object) -> None:
    @asgi(name="test")
    def handler() -> Any:
        return made

    with pytest.raises(InvalidInput, match=r"handler\(\) is no ASGI application"):
        await call(handler.local())
