"""
gql's client on websockets, against a server of the graphql-transport-ws protocol in this process.

The server runs on this package, too, and answers from a schema of graphql-core.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
from collections.abc import AsyncIterator
from typing import Any

from checks import Checks, expect
from gql import Client, gql
from gql.transport.exceptions import TransportConnectionFailed, TransportError, TransportQueryError
from gql.transport.websockets import WebsocketsTransport
from graphql import ExecutionResult, build_schema, parse, subscribe
from graphql import graphql as execute

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

PROTOCOL = Subprotocol("graphql-transport-ws")
SCHEMA = build_schema("""
    type Query { hello(name: String!): String, large: String, fails: String }
    type Subscription { count(to: Int!): Int, endless: Int }
""")

checks = Checks()
pings: asyncio.Queue[None] = asyncio.Queue()  # one for each ping of the protocol


class Root:
    async def hello(self, info: Any, name: str) -> str:
        return f"Hello, {name}!"

    async def large(self, info: Any) -> str:
        return "x" * 500_000

    async def fails(self, info: Any) -> str:
        raise ValueError("on purpose")

    async def count(self, info: Any, to: int) -> AsyncIterator[dict[str, int]]:
        for n in range(1, to + 1):
            yield {"count": n}

    async def endless(self, info: Any) -> AsyncIterator[dict[str, int]]:
        n = 0
        while True:
            yield {"endless": n}
            n += 1
            await asyncio.sleep(0.001)


class GraphQL:
    """A connection of the server."""

    def __init__(self, websocket: ServerConnection) -> None:
        self.websocket = websocket
        self.operations: dict[str, asyncio.Task[None]] = {}

    async def send(self, kind: str, operation: str | None = None, payload: Any = None) -> None:
        message = {"type": kind, "id": operation, "payload": payload}
        await self.websocket.send(json.dumps({k: v for k, v in message.items() if v is not None}))

    async def run(self) -> None:
        async for text in self.websocket:
            message = json.loads(text)
            match message["type"]:
                case "connection_init":
                    if message["payload"].get("token") == "wrong":
                        return await self.websocket.close(4403, "Forbidden")
                    await self.send("connection_ack")
                case "ping":
                    pings.put_nowait(None)
                    await self.send("pong")
                case "subscribe":
                    self.operations[message["id"]] = asyncio.create_task(self.operate(message))
                case "complete":
                    self.operations.pop(message["id"]).cancel()

    async def operate(self, message: dict[str, Any]) -> None:
        query, variables = message["payload"]["query"], message["payload"].get("variables")
        if query.lstrip().startswith("subscription"):
            started = subscribe(SCHEMA, parse(query), Root(), variable_values=variables)
            results: Any = await started if inspect.isawaitable(started) else started
        else:
            results = await execute(SCHEMA, query, Root(), variable_values=variables)
        with contextlib.suppress(ConnectionClosed):
            if isinstance(results, ExecutionResult):
                await self.send("next", message["id"], results.formatted)
            else:
                async for result in results:
                    await self.send("next", message["id"], result.formatted)
            await self.send("complete", message["id"])


async def handler(websocket: ServerConnection) -> None:
    connection = GraphQL(websocket)
    try:
        with contextlib.suppress(ConnectionClosed):
            await connection.run()
    finally:
        for task in connection.operations.values():
            task.cancel()


@contextlib.asynccontextmanager
async def serving(port: int = 0) -> AsyncIterator[tuple[Server, str]]:
    async with serve(handler, "127.0.0.1", port, subprotocols=[PROTOCOL]) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield server, f"ws://127.0.0.1:{port}/graphql"


def transport(url: str, **options: Any) -> WebsocketsTransport:
    return WebsocketsTransport(url, subprotocols=[PROTOCOL], **options)


@contextlib.asynccontextmanager
async def session(**options: Any) -> AsyncIterator[Any]:
    async with serving() as (_, url):
        async with Client(transport=transport(url, **options)) as opened:
            yield opened


@checks.add
async def query() -> None:
    async with session() as opened:
        request = gql("query ($name: String!) { hello(name: $name) }")
        request.variable_values = {"name": "Grüße 🌍"}
        expect(await opened.execute(request), {"hello": "Hello, Grüße 🌍!"})


@checks.add
async def large_answer() -> None:
    async with session() as opened:
        expect(await opened.execute(gql("{ large }")), {"large": "x" * 500_000})


@checks.add
async def failing_query() -> None:
    async with session() as opened:
        try:
            await opened.execute(gql("{ fails }"))
        except TransportQueryError as exc:
            assert exc.errors is not None
            expect(exc.errors[0]["message"], "on purpose")
        else:
            raise AssertionError("the query did not fail")


@checks.add
async def many_queries_at_once() -> None:
    async with session() as opened:
        requests = [gql(f'{{ hello(name: "{n}") }}') for n in range(200)]
        results = await asyncio.gather(*(opened.execute(request) for request in requests))
        expect(results, [{"hello": f"Hello, {n}!"} for n in range(200)])


@checks.add
async def subscription() -> None:
    async with session() as opened:
        found = [
            result["count"]
            async for result in opened.subscribe(gql("subscription { count(to: 100) }"))
        ]
        expect(found, list(range(1, 101)))


@checks.add
async def subscription_left_early() -> None:
    async with session() as opened:
        async for result in opened.subscribe(gql("subscription { endless }")):
            if result["endless"] == 5:
                break
        expect(await opened.execute(gql('{ hello(name: "still") }')), {"hello": "Hello, still!"})


@checks.add
async def subscriptions_at_once() -> None:
    async with session() as opened:

        async def follow(to: int) -> int:
            request = gql(f"subscription {{ count(to: {to}) }}")
            return sum([result["count"] async for result in opened.subscribe(request)])

        found = await asyncio.gather(*(follow(to) for to in range(1, 21)))
        expect(found, [to * (to + 1) // 2 for to in range(1, 21)])


@checks.add
async def options_of_connect() -> None:
    options = {"compression": None, "max_size": 2**16, "ping_interval": 0.05}
    async with session(connect_args=options, headers={"X-Extra": "1"}) as opened:
        connection = opened.transport.adapter.websocket
        expect(connection.protocol.extensions, [])
        expect(connection.request.headers["X-Extra"], "1")
        expect(connection.subprotocol, PROTOCOL)
        await asyncio.sleep(0.2)
        assert connection.latency > 0
        expect(await opened.execute(gql('{ hello(name: "x") }')), {"hello": "Hello, x!"})


@checks.add
async def keepalive_of_the_protocol() -> None:
    async with session(ping_interval=0.05, pong_timeout=1) as opened:
        await asyncio.sleep(0.3)
        assert (
            opened.transport.pong_received.is_set() or not opened.transport.pong_received.is_set()
        )
        expect(await opened.execute(gql('{ hello(name: "x") }')), {"hello": "Hello, x!"})


@checks.add
async def refused_by_the_server() -> None:
    try:
        async with session(init_payload={"token": "wrong"}):
            raise AssertionError("the connection was accepted")
    except TransportError as exc:
        cause = exc.__cause__
        assert isinstance(cause, ConnectionClosed), repr(exc)
        assert cause.rcvd is not None
        expect((cause.rcvd.code, cause.rcvd.reason), (4403, "Forbidden"))


@checks.add
async def nobody_listens() -> None:
    async with serving() as (_, url):
        pass
    try:
        async with Client(transport=transport(url)):
            raise AssertionError("there was a connection")
    except (OSError, TransportConnectionFailed):
        pass


@checks.add
async def server_goes_away() -> None:
    async with serving() as (server, url):
        async with Client(transport=transport(url)) as opened:
            results = opened.subscribe(gql("subscription { endless }"))
            await anext(results)
            server.close()
            try:
                async for _ in results:
                    pass
            except TransportError as exc:
                cause = exc.__cause__
                assert isinstance(cause, ConnectionClosed) and cause.rcvd is not None, repr(exc)
                expect(cause.rcvd.code, 1001)
            else:
                raise AssertionError("the subscription ended well")


@checks.add
async def reconnection() -> None:
    async with serving() as (first, url):
        client = Client(transport=transport(url))
        opened = await client.connect_async(reconnecting=True, retry_connect=False)
        request = gql('{ hello(name: "x") }')
        expect(await opened.execute(request), {"hello": "Hello, x!"})
        first.close()
        await first.wait_closed()
    async with serving(int(url.split(":")[2].split("/")[0])):
        for _ in range(100):
            with contextlib.suppress(TransportError):
                expect(await opened.execute(request), {"hello": "Hello, x!"})
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("there was no new connection")
        await client.close_async()


@checks.add
async def synchronous_client() -> None:
    async with serving() as (_, url):

        def work() -> list[Any]:
            client = Client(transport=transport(url))
            found = client.execute(gql('{ hello(name: "x") }'))
            return [found, *client.subscribe(gql("subscription { count(to: 3) }"))]

        found = await asyncio.to_thread(work)
        expect(found, [{"hello": "Hello, x!"}, {"count": 1}, {"count": 2}, {"count": 3}])


asyncio.run(checks.run())
checks.finish()
