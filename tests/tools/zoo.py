"""A server with all that a proxy must get right, to be run as `python zoo.py PORT`."""

import asyncio
import gzip
import hashlib
import os
import sys
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

LOG: list[str] = []
GATE = asyncio.Event()


async def echo(request: Request) -> Response:
    body = await request.body()
    answer = JSONResponse(
        {
            "method": request.method,
            "path": request.scope["raw_path"].decode(),
            "query": request.url.query,
            "headers": [[k.decode(), v.decode("latin-1")] for k, v in request.headers.raw],
            "body": body.decode("latin-1"),
            "pid": os.getpid(),
            "cwd": os.getcwd(),
            "environment": {k: os.environ.get(k, "") for k in ("HOME", "PORT", "GREETING", "PATH")},
            "inside": {k: v for k, v in os.environ.items() if k.startswith("COMFYSERVE_")},
        }
    )
    answer.headers.append("set-cookie", "a=1")
    answer.headers.append("set-cookie", "b=2")
    return answer


async def zipped(request: Request) -> Response:
    return Response(gzip.compress(b"hello " * 1000), headers={"content-encoding": "gzip"})


async def redirect(request: Request) -> Response:
    return Response(status_code=307, headers={"location": "/elsewhere?x=1"})


async def events(request: Request) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        try:
            for number in range(1000):
                yield f"data: {number}\n\n".encode()
                await GATE.wait()
                GATE.clear()
        except (asyncio.CancelledError, GeneratorExit):
            LOG.append("events left")
            raise

    return StreamingResponse(lines(), media_type="text/event-stream")


async def go_on(request: Request) -> Response:
    GATE.set()
    return PlainTextResponse("on")


async def slow(request: Request) -> Response:
    await asyncio.sleep(float(request.query_params.get("s", "1")))
    return JSONResponse({"pid": os.getpid(), "version": os.environ.get("VERSION", "")})


async def big(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(int(request.query_params["mb"])):
            yield bytes(1 << 20)

    return StreamingResponse(chunks())


async def upload(request: Request) -> Response:
    digest, size = hashlib.sha256(), 0
    try:
        async for chunk in request.stream():
            if not size:
                LOG.append("upload began")
            digest.update(chunk)
            size += len(chunk)
    except ClientDisconnect:
        LOG.append("upload left")
        raise
    return JSONResponse({"size": size, "sha256": digest.hexdigest()})


async def hang(request: Request) -> Response:
    LOG.append("hang began")
    while (await request.receive())["type"] != "http.disconnect":
        continue
    LOG.append("hang left")
    return Response()


async def die(request: Request) -> Response:
    sys.stderr.write("dying as asked\n")
    os._exit(7)


async def die_midway(request: Request) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        yield b"half of "
        await asyncio.sleep(0.05)
        os._exit(7)

    length = {"content-length": "100"} if "length" in request.query_params else {}
    return StreamingResponse(lines(), headers=length)


async def keep(request: Request) -> Response:
    return Response(headers={"x-comfyserve-keep-alive": request.query_params["s"]})


async def status(request: Request) -> Response:
    return Response(b"", int(request.path_params["code"]))


async def log(request: Request) -> Response:
    return JSONResponse(LOG)


async def socket(socket: WebSocket) -> None:
    if "refuse" in socket.query_params:
        await socket.close()
        return
    offered = socket.scope["subprotocols"]
    await socket.accept(subprotocol=offered[-1] if offered else None)
    LOG.append("socket began")
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                LOG.append(f"socket left {message['code']} {message.get('reason') or ''}".strip())
                return
            if message.get("text") == "die":
                os._exit(7)
            if (text := message.get("text")) is not None and text.startswith("close "):
                await socket.close(int(text.split()[1]), "as asked")
                return
            await socket.send({**message, "type": "websocket.send"})
    except WebSocketDisconnect as error:
        LOG.append(f"socket left {error.code}")


ROUTES = [
    *(Route(f"/{name}", handler, methods=["GET", "POST", "PUT"]) for name, handler in {
        "gzip": zipped, "redirect": redirect, "events": events, "on": go_on, "slow": slow,
        "big": big, "upload": upload, "hang": hang, "die": die, "die_midway": die_midway,
        "keep": keep, "log": log,
    }.items()),
    Route("/status/{code}", status),
    WebSocketRoute("/ws", socket),
    Route("/{rest:path}", echo, methods=["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
]  # fmt: skip

if __name__ == "__main__":
    uvicorn.run(
        Starlette(routes=ROUTES), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning"
    )
