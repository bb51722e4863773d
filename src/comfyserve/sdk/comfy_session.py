"""One connection to a ComfyUI: submit, follow, fetch. Several runs may be under way at once."""

import asyncio
import inspect
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypedDict, Unpack

import aiohttp

from comfyserve.domain.errors import InvalidInput, NotFound
from comfyserve.sdk.comfy import ComfyUI, Progress
from comfyserve.sdk.comfy_process import BackgroundComfyUI, start_comfyui
from comfyserve.sdk.comfy_result import ComfyFile, RunResult, read_outputs
from comfyserve.sdk.comfy_workflow import Ready, Workflow, file_inputs, make_ready
from comfyserve.sdk.errors import ConnectionLost, PromptRefused, Refused, ServerFailed, TimedOut
from comfyserve.sdk.follow import Follower
from comfyserve.workflow import NodeCatalog

_CALL_S = 60.0
_SILENCE_S = 2.0
"""After so long without news the history is asked: it is the authority."""
_CLEANUP_S = 5.0
_SOON_S = 0.02
_GOODBYE = aiohttp.ClientWSTimeout(ws_close=1.0)
OnProgress = Callable[[Progress], object]


class RunOptions(TypedDict, total=False):
    """What a run takes besides its workflow. `timeout` is in seconds; without one it may take for ever."""

    timeout: float | None


async def open_session(comfy: ComfyUI) -> "ComfySession":
    """Connect to the ComfyUI that is meant, started if need be."""
    if comfy.url is not None:
        found = BackgroundComfyUI(comfy.url.rstrip("/"))
    else:
        found = await asyncio.to_thread(
            start_comfyui, comfy.engine, comfy.comfyui_dir, comfy.args, comfy.start_timeout
        )
    return ComfySession(found.url)


class ComfySession:
    """What `async with ComfyUI() as comfy` gives."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CALL_S), auto_decompress=True
        )
        self._catalog: NodeCatalog | None = None

    async def aclose(self) -> None:
        """Let go of the connection. Twice is fine."""
        await self._http.close()

    async def run(
        self,
        workflow: Workflow,
        inputs: Mapping[str, Any] | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult:
        """Run a workflow and return what this run made.

        `workflow` is what people have: API format, the editor's export, a file that ComfyUI saved, as
        a path, bytes, or parsed JSON. `inputs` are set by the names that the workflow's inputs have,
        or as `"NODE_ID.INPUT"`; a Path is uploaded. `on_progress` gets each Progress and may be a
        coroutine function. Canceling the call cancels the run.

        Raises InvalidInput, PromptRefused (before anything runs), RunFailed and TimedOut.
        """
        values = {**(inputs or {})}
        for name, path in file_inputs(values).items():
            values[name] = await self.upload(path)
        ready = await self._ready(await asyncio.to_thread(_read, workflow), values)
        timeout_s = options.get("timeout")
        try:
            async with asyncio.timeout(timeout_s):
                return await self._run(ready, on_progress)
        except TimeoutError:
            raise TimedOut(f"the run took longer than {timeout_s:g} s and was canceled") from None

    async def upload(self, path: Path) -> str:
        """Hand a local file to ComfyUI; return the name that a workflow may use. Raises NotFound."""
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise NotFound(f"'{path}' cannot be read: {error.strerror}") from error
        form = aiohttp.FormData()
        # Under a name that no other request can have.
        form.add_field("image", data, filename=f"{uuid.uuid4().hex}{path.suffix}")
        answer = await self._json("POST", "/upload/image", data=form)
        folder = f"{answer['subfolder']}/" if answer.get("subfolder") else ""
        return f"{folder}{answer['name']}"

    async def fetch(self, file: ComfyFile) -> bytes:
        """The bytes of a file. Raises NotFound."""
        async with self._call("GET", "/view", params=file.query) as answer:
            if answer.status != 200:
                raise NotFound(f"ComfyUI does not have '{file.name}' any more")
            return await answer.read()

    async def _ready(self, body: Mapping[str, Any] | bytes, values: Mapping[str, Any]) -> Ready:
        """The prompt, judged by what ComfyUI has; asked again before anything is refused for it."""
        if self._catalog is not None:
            try:
                return await asyncio.to_thread(make_ready, body, values, self._catalog)
            except (PromptRefused, InvalidInput):
                self._catalog = None
        self._catalog = await self._known_nodes()
        return await asyncio.to_thread(make_ready, body, values, self._catalog)

    async def _run(self, ready: Ready, on_progress: OnProgress | None) -> RunResult:
        prompt_id, client_id = str(uuid.uuid4()), uuid.uuid4().hex
        socket = await self._listen(client_id)
        try:
            prompt_id = await self._submit(ready, prompt_id, client_id)
            follower = Follower(prompt_id, ready.titles)
            try:
                entry = await self._follow(socket, follower, on_progress)
            except BaseException:
                await self._cancel(prompt_id)
                raise
        finally:
            await socket.close()
        follower.raise_failure(entry)
        files, values = read_outputs(entry)
        return RunResult(prompt_id, tuple(files), values, self.fetch)

    async def _listen(self, client_id: str) -> aiohttp.ClientWebSocketResponse:
        try:
            async with asyncio.timeout(_CALL_S):
                return await self._http.ws_connect(
                    f"{self.url}/ws",
                    params={"clientId": client_id},
                    max_msg_size=0,
                    timeout=_GOODBYE,
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ConnectionLost(f"ComfyUI at {self.url} cannot be reached: {error}") from error

    async def _submit(self, ready: Ready, prompt_id: str, client_id: str) -> str:
        extra = {} if ready.source is None else {"extra_pnginfo": {"workflow": ready.source}}
        body = {
            "prompt": ready.prompt,
            "prompt_id": prompt_id,
            "client_id": client_id,
            "extra_data": extra,
        }
        answer = await self._json("POST", "/prompt", json=body)
        return str(answer["prompt_id"])

    async def _follow(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        follower: Follower,
        on_progress: OnProgress | None,
    ) -> Mapping[str, Any]:
        """Tell what happens until the run has ended; return its entry in the history."""
        while True:
            message = await _next(socket)
            if message is None:
                # Silence, or the connection is gone: the history says whether it has ended.
                entry = await self._history(follower.prompt_id)
                if entry is not None:
                    return entry
                if socket.closed:
                    await asyncio.sleep(_SILENCE_S)
                continue
            for progress in follower.heard(message):
                if on_progress is not None:
                    told = on_progress(progress)
                    if inspect.isawaitable(told):
                        await told
            if follower.has_ended:
                return await self._ended(follower.prompt_id)

    async def _ended(self, prompt_id: str) -> Mapping[str, Any]:
        """The entry of a run that has ended; ComfyUI writes it a moment after it says so."""
        async with asyncio.timeout(_CALL_S):
            while True:
                entry = await self._history(prompt_id)
                if entry is not None:
                    return entry
                await asyncio.sleep(_SOON_S)

    async def _history(self, prompt_id: str) -> Mapping[str, Any] | None:
        found = await self._json("GET", f"/history/{prompt_id}")
        entry = found.get(prompt_id)
        return entry if isinstance(entry, Mapping) else None

    async def _cancel(self, prompt_id: str) -> None:
        """Take the run out of the queue, or stop it. What ComfyUI says to it changes nothing."""
        try:
            async with asyncio.timeout(_CLEANUP_S):
                await self._json("POST", "/queue", json={"delete": [prompt_id]})
                await self._json("POST", "/interrupt", json={"prompt_id": prompt_id})
        except (TimeoutError, ServerFailed, Refused, ConnectionLost):
            return

    async def _known_nodes(self) -> NodeCatalog:
        info = await self._json("GET", "/object_info")
        return await asyncio.to_thread(NodeCatalog.from_object_info, info)

    async def _json(self, method: str, path: str, **request: Any) -> Mapping[str, Any]:  # noqa: ANN401
        async with self._call(method, path, **request) as answer:
            text = await answer.text()
        if answer.status >= 400:
            kind = ServerFailed if answer.status >= 500 else Refused
            raise kind(f"ComfyUI answered {answer.status} to {method} {path}: {text[:500]}")
        try:
            document = json.loads(text) if text else {}
        except ValueError as error:
            raise ServerFailed(f"ComfyUI's answer to {path} is not JSON") from error
        return document if isinstance(document, Mapping) else {}

    @asynccontextmanager
    async def _call(
        self,
        method: str,
        path: str,
        **request: Any,  # noqa: ANN401 - aiohttp's own
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with (
                asyncio.timeout(_CALL_S),
                self._http.request(method, self.url + path, **request) as answer,
            ):
                yield answer
        except TimeoutError as error:
            raise ConnectionLost(f"ComfyUI did not answer {method} {path} in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionLost(f"ComfyUI at {self.url} cannot be reached: {error}") from error


async def _next(socket: aiohttp.ClientWebSocketResponse) -> Mapping[str, Any] | None:
    """The next message; None after a silence, and where the connection has ended."""
    try:
        frame = await socket.receive(timeout=_SILENCE_S)
    except TimeoutError:
        return None
    if frame.type is aiohttp.WSMsgType.TEXT:
        message = json.loads(frame.data)
        return message if isinstance(message, Mapping) else {}
    return {} if frame.type is aiohttp.WSMsgType.BINARY else None


def _read(workflow: Workflow) -> Mapping[str, Any] | bytes:
    if isinstance(workflow, bytes) or not isinstance(workflow, str | Path):
        return workflow
    path = Path(workflow)
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"the workflow '{path}' cannot be read: {error.strerror}") from error
