"""
A service as it is deployed: health check, metrics, sockets from systemd, and a stop without haste.

    GET /healthz    200; 503 as soon as it is stopping, for the load balancer to look elsewhere
    GET /metrics    what it does, as Prometheus reads it
    /               a WebSocket that echoes

On SIGTERM it goes on for as long as the load balancer takes to notice. Then it accepts no more
connections, and closes those that there are one after the other, for their clients not to come back
all at once.
"""

import asyncio
import os
import signal
import socket
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

NOTICE = 5.0  # seconds until the load balancer has noticed
DRAIN = 20.0  # seconds over which connections are closed
FIRST_DESCRIPTOR = 3  # of the sockets that systemd opened: sd_listen_fds(3)


class Service:
    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.connections = 0
        self.messages = 0

    async def handler(self, websocket: ServerConnection) -> None:
        self.connections += 1
        async for message in websocket:
            self.messages += 1
            await websocket.send(message)

    def answer_http(self, websocket: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP; None goes on to the WebSocket."""
        if request.path == "/":
            return None
        if request.path == "/healthz":
            if self.stopping.is_set():
                return websocket.respond(503, "stopping\n")
            return websocket.respond(200, "OK\n")
        if request.path == "/metrics":
            return websocket.respond(200, self.metrics(websocket.server))
        return websocket.respond(404, "not found\n")

    def metrics(self, server: Server) -> str:
        return (
            "# TYPE websocket_connections gauge\n"
            f"websocket_connections {len(server.connections)}\n"
            "# TYPE websocket_connections_total counter\n"
            f"websocket_connections_total {self.connections}\n"
            "# TYPE websocket_messages_total counter\n"
            f"websocket_messages_total {self.messages}\n"
        )


async def drain(server: Server) -> None:
    """Accept no more connections, and close those that there are."""
    server.close(close_connections=False)
    connections = list(server.connections)
    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(connection.close(CloseCode.SERVICE_RESTART, "restarting"))
            await asyncio.sleep(DRAIN / len(connections))
    await server.wait_closed()


def where_to_listen() -> dict[str, Any]:
    """Return arguments for `serve`: systemd's socket if there is one, else a host and a port."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        return {"sock": socket.socket(fileno=FIRST_DESCRIPTOR)}
    return {"host": "localhost", "port": 8765}


async def main() -> None:
    service = Service()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, service.stopping.set)
    async with serve(
        service.handler, process_request=service.answer_http, **where_to_listen()
    ) as server:
        await service.stopping.wait()
        await asyncio.sleep(NOTICE)
        await drain(server)


if __name__ == "__main__":
    asyncio.run(main())
