"""
Echo servers on this library and on its peers, each as its users would write it.

``echo_servers.py KIND LOOP`` prints the port that it listens on. KIND is ``websockets`` (whichever
is installed), ``picows`` (its callbacks), ``picows.websockets`` or ``aiohttp``; LOOP is ``asyncio``
or ``uvloop``. No server offers compression or sends keepalive pings.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

MAX_SIZE = 64 * 2**20


async def websockets() -> Any:
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)

    options: dict[str, Any] = {"compression": None, "ping_interval": None, "max_size": MAX_SIZE}
    return await serve(echo, "127.0.0.1", 0, **options)


async def picows_websockets() -> Any:
    from picows.websockets.asyncio.server import serve

    async def echo(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)

    options: dict[str, Any] = {"compression": None, "ping_interval": None, "max_size": MAX_SIZE}
    return await serve(echo, "127.0.0.1", 0, **options)


async def picows() -> Any:
    from picows import WSListener, WSMsgType, ws_create_server

    class Echo(WSListener):  # type: ignore[misc]
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    return await ws_create_server(lambda request: Echo(), "127.0.0.1", 0)


async def aiohttp() -> Any:
    from aiohttp import WSMsgType, web

    async def echo(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False, max_msg_size=MAX_SIZE)
        await ws.prepare(request)
        async for message in ws:
            if message.type == WSMsgType.TEXT:
                await ws.send_str(message.data)
            else:
                await ws.send_bytes(message.data)
        return ws

    application = web.Application()
    application.router.add_get("/", echo)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    return await asyncio.get_running_loop().create_server(runner.server, "127.0.0.1", 0)


KINDS = {
    "websockets": websockets,
    "picows": picows,
    "picows.websockets": picows_websockets,
    "aiohttp": aiohttp,
}


async def main() -> None:
    server = await KINDS[sys.argv[1]]()
    print(next(iter(server.sockets)).getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    # The load ends without a closing handshake; printing what each library thinks of that would be
    # measured too.
    logging.disable(logging.CRITICAL)
    if sys.argv[2] == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
