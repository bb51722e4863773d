"""What the plain proxy is measured with, to be run as `python plain_server.py PORT`."""

import sys

from aiohttp import web

_CHUNK = bytes(1 << 20)


async def hello(_: web.Request) -> web.Response:
    """A small answer."""
    return web.Response(text="hello")


async def body(request: web.Request) -> web.StreamResponse:
    """As many megabytes as are asked for."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(int(request.query["mb"])):
        await answer.write(_CHUNK)
    return answer


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Every message comes back."""
    wire = web.WebSocketResponse(compress=False)
    await wire.prepare(request)
    async for message in wire:
        await wire.send_str(message.data)
    return wire


if __name__ == "__main__":
    app = web.Application()
    app.add_routes([web.get("/", hello), web.get("/body", body), web.get("/ws", echo)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
