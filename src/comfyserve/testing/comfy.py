"""A fake ComfyUI on a real socket: what the runtime needs of its protocol, and misbehaviour on request.

`FakeEngines` puts one behind each replica of a `FakeLauncher`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import WSMsgType, web

from comfyserve.runtime.launchers.base import Endpoint, LaunchSpec
from comfyserve.runtime.tasks import TaskScope
from comfyserve.testing.comfy_classes import OBJECT_INFO
from comfyserve.testing.comfy_plays import FileKey, NodeFailed, Play, Stage, perform


@dataclass(frozen=True, slots=True)
class Conduct:
    """How a fake engine behaves. Routes are written as `GET /history/{prompt_id}`.

    `play` runs a prompt. `refusal` is the 400 answer to `POST /prompt`. Requests to `broken` routes
    get a 500, those to `hung` ones wait until the conduct changes or the engine dies.
    """

    play: Play = perform
    refusal: Mapping[str, Any] | None = None
    broken: frozenset[str] = frozenset()
    hung: frozenset[str] = frozenset()
    heeds_interrupt: bool = True
    keeps_history: bool = True
    says_everything_twice: bool = False
    version: str = "0.3.64"


WELL_BEHAVED = Conduct()


class FakeComfy:
    """One engine. An async context: it listens from enter to exit, or until it dies."""

    def __init__(self, conduct: Conduct = WELL_BEHAVED) -> None:
        self.conduct = conduct
        self.submitted: list[Mapping[str, Any]] = []
        self.interrupted: list[str] = []
        self.hanging: list[str] = []
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self._wires: dict[str, asyncio.BaseTransport] = {}
        self.files: dict[FileKey, bytes] = {}
        self.cache: dict[bytes, Mapping[str, Any]] = {}
        self.history: dict[str, Any] = {}
        self._pending: list[Stage] = []
        self._running: Stage | None = None
        self._playing: asyncio.Task[tuple[str, dict[str, Any]]] | None = None
        self._work = asyncio.Event()
        self._changed = asyncio.Event()
        self._scope = TaskScope("fake comfy")
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._misbehave], client_max_size=64 * 1024**2)
        app.add_routes(
            [
                web.get("/ws", self._ws),
                web.get("/prompt", self._get_prompt),
                web.post("/prompt", self._post_prompt),
                web.get("/queue", self._get_queue),
                web.post("/queue", self._post_queue),
                web.post("/interrupt", self._interrupt),
                web.get("/history/{prompt_id}", self._get_history),
                web.get("/view", self._view),
                web.get("/object_info", self._object_info),
                web.get("/system_stats", self._system_stats),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._scope.spawn(self._run_prompts(), name="worker")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.die()

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        if self._runner is None:
            raise RuntimeError("this engine does not listen")
        host, port = self._runner.addresses[0]
        return Endpoint(host, port)

    def behave(self, conduct: Conduct) -> None:
        """Behave in another way from now on; requests that hung go on."""
        self.conduct = conduct
        self._changed.set()
        self._changed = asyncio.Event()

    async def die(self) -> None:
        """Cut every connection and stop listening, as a killed process does. Twice is fine."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self._changed.set()
        await self._scope.aclose()
        for connection in runner.server.connections if runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    def cut_sockets(self) -> None:
        """Cut every WebSocket without goodbye."""
        for wire in self._wires.values():
            if isinstance(wire, asyncio.WriteTransport):
                wire.abort()

    async def send(self, client_id: str | None, kind: str, data: Mapping[str, Any]) -> None:
        """Send a message to one client, if it is there."""
        socket = self.sockets.get(client_id or "")
        for _ in range(2 if self.conduct.says_everything_twice else 1):
            if socket is not None and not socket.closed:
                with suppress(ConnectionError):
                    await socket.send_json({"type": kind, "data": data})

    async def send_frame(self, client_id: str | None, payload: bytes) -> None:
        """Send a binary message to one client, if it is there."""
        socket = self.sockets.get(client_id or "")
        if socket is not None and not socket.closed:
            with suppress(ConnectionError):
                await socket.send_bytes(payload)

    async def _run_prompts(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._pending:
                stage = self._running = self._pending.pop(0)
                self._playing = self._scope.spawn(self._play(stage), name=stage.prompt_id)
                await asyncio.wait({self._playing})
                await self._conclude(stage, self._playing)

    async def _play(self, stage: Stage) -> tuple[str, dict[str, Any]]:
        """Run the play; return the message that ends it."""
        try:
            await self.conduct.play(stage)
        except NodeFailed as failure:
            return "execution_error", {
                "node_id": failure.node_id,
                "node_type": stage.prompt[failure.node_id]["class_type"],
                "exception_message": f"{failure}\n",
                "exception_type": failure.kind,
                "traceback": ["  File nodes.py, line 1\n"],
                "executed": list(stage.outputs),
                "current_inputs": {},
                "current_outputs": [],
            }
        return "execution_success", {}

    async def _conclude(
        self, stage: Stage, playing: asyncio.Task[tuple[str, dict[str, Any]]]
    ) -> None:
        interrupted = {"node_id": "", "node_type": "", "executed": []}
        kind, data = (
            ("execution_interrupted", interrupted) if playing.cancelled() else playing.result()
        )
        await stage.note(kind, **data)
        is_success = kind == "execution_success"
        if self.conduct.keeps_history:
            self.history[stage.prompt_id] = {
                "prompt": stage.item,
                "outputs": stage.outputs,
                "status": {
                    "status_str": "success" if is_success else "error",
                    "completed": is_success,
                    "messages": stage.messages,
                },
                "meta": {},
            }
        self._running = self._playing = None
        await stage.say("executing", node=None)

    @web.middleware
    async def _misbehave(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = f"{request.method} {resource.canonical if resource else request.path}"
        while route in self.conduct.hung and self._runner is not None:
            self.hanging.append(route)
            await self._changed.wait()
            self.hanging.remove(route)
        if route in self.conduct.broken:
            raise web.HTTPInternalServerError(text="500 Internal Server Error")
        return await handler(request)

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        socket, sid = web.WebSocketResponse(), request.query["clientId"]
        await socket.prepare(request)
        self.sockets[sid] = socket
        if request.transport is not None:
            self._wires[sid] = request.transport
        status = {"status": {"exec_info": {"queue_remaining": 0}}, "sid": sid}
        await socket.send_json({"type": "status", "data": status})
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_json({"type": "feature_flags", "data": {}})
        return socket

    async def _get_prompt(self, _: web.Request) -> web.Response:
        remaining = len(self._pending) + (self._running is not None)
        return web.json_response({"exec_info": {"queue_remaining": remaining}})

    async def _post_prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.conduct.refusal is not None:
            return web.json_response(self.conduct.refusal, status=400)
        self.submitted.append(body)
        prompt, prompt_id, client_id = body["prompt"], body["prompt_id"], body.get("client_id")
        number, extra = len(self.submitted) - 1, body.get("extra_data", {})
        item = [number, prompt_id, prompt, extra, []]
        self._pending.append(Stage(self, prompt_id, client_id, prompt, item))
        self._work.set()
        return web.json_response({"prompt_id": prompt_id, "number": number, "node_errors": {}})

    async def _get_queue(self, _: web.Request) -> web.Response:
        running = [] if self._running is None else [self._running.item]
        pending = [stage.item for stage in self._pending]
        return web.json_response({"queue_running": running, "queue_pending": pending})

    async def _post_queue(self, request: web.Request) -> web.Response:
        gone = set((await request.json()).get("delete", ()))
        self._pending = [stage for stage in self._pending if stage.prompt_id not in gone]
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        prompt_id = (await request.json())["prompt_id"]
        self.interrupted.append(prompt_id)
        is_running = self._running is not None and self._running.prompt_id == prompt_id
        if is_running and self._playing is not None and self.conduct.heeds_interrupt:
            self._playing.cancel()
        return web.Response()

    async def _get_history(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["prompt_id"]
        found = self.history.get(prompt_id)
        return web.json_response({} if found is None else {prompt_id: found})

    async def _view(self, request: web.Request) -> web.Response:
        wanted = (request.query["filename"], request.query["subfolder"], request.query["type"])
        if (data := self.files.get(wanted)) is None:
            return web.Response(status=404)
        return web.Response(body=data, content_type="image/png")

    async def _object_info(self, _: web.Request) -> web.Response:
        return web.json_response(OBJECT_INFO)

    async def _system_stats(self, _: web.Request) -> web.Response:
        return web.json_response({"system": {"comfyui_version": self.conduct.version}})


class FakeEngines:
    """The engines behind the replicas of a `FakeLauncher`.

    `conduct` says how the next ones behave; one that is named after its replica's id in `of` lives.
    """

    def __init__(self, conduct: Conduct = WELL_BEHAVED) -> None:
        self.conduct = conduct
        self.of: dict[str, FakeComfy] = {}

    async def up(self, replica_id: str, spec: LaunchSpec) -> Endpoint:  # noqa: ARG002
        """Start an engine."""
        engine = await FakeComfy(self.conduct).__aenter__()
        self.of[replica_id] = engine
        return engine.endpoint

    async def down(self, replica_id: str) -> None:
        """Have an engine die."""
        if (engine := self.of.pop(replica_id, None)) is not None:
            await engine.die()

    async def aclose(self) -> None:
        """Have all engines die."""
        for replica_id in tuple(self.of):
            await self.down(replica_id)
