"""
web3's WebSocketProvider, against a node in this process that speaks enough of Ethereum's JSON-RPC.

The node runs on this package, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from checks import Checks, expect
from web3 import AsyncWeb3, WebSocketProvider

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

checks = Checks()
SUBSCRIPTION = "0x1234567890"


def answer(request: dict[str, Any]) -> dict[str, Any]:
    match request["method"]:
        case "eth_chainId":
            result: Any = "0x539"
        case "eth_blockNumber":
            result = "0x10"
        case "eth_getBalance":
            # The last two digits of the address.
            result = hex(int(request["params"][0][-2:], 16))
        case "eth_getCode":
            result = "0x" + "60" * 400_000
        case "eth_subscribe":
            result = SUBSCRIPTION
        case "eth_unsubscribe":
            result = True
        case method:
            raise AssertionError(method)
    return {"jsonrpc": "2.0", "id": request["id"], "result": result}


async def node(websocket: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in websocket:
            request = json.loads(message)
            if isinstance(request, list):
                await websocket.send(json.dumps([answer(one) for one in request]))
                continue
            await websocket.send(json.dumps(answer(request)))
            if request["method"] == "eth_subscribe":
                for n in range(50):
                    params = {"subscription": SUBSCRIPTION, "result": f"0x{n:064x}"}
                    notice = {"jsonrpc": "2.0", "method": "eth_subscription", "params": params}
                    await websocket.send(json.dumps(notice))


@contextlib.asynccontextmanager
async def serving(port: int = 0) -> AsyncIterator[tuple[Server, int]]:
    async with serve(node, "127.0.0.1", port) as server:
        yield server, next(iter(server.sockets)).getsockname()[1]


@contextlib.asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[Any]:
    async with serving() as (_, port):
        async with AsyncWeb3(WebSocketProvider(f"ws://127.0.0.1:{port}", **options)) as w3:
            yield w3


def address(n: int) -> str:
    return str(AsyncWeb3.to_checksum_address(f"0x{n:040x}"))


@checks.add
async def calls() -> None:
    async with connected() as w3:
        assert await w3.is_connected()
        expect([await w3.eth.chain_id, await w3.eth.block_number], [1337, 16])


@checks.add
async def calls_at_once() -> None:
    async with connected() as w3:
        found = await asyncio.gather(*(w3.eth.get_balance(address(n)) for n in range(200)))
        expect(found, list(range(200)))


@checks.add
async def calls_in_a_batch() -> None:
    async with connected() as w3:
        async with w3.batch_requests() as batch:
            for n in range(20):
                batch.add(w3.eth.get_balance(address(n)))
            expect(await batch.async_execute(), list(range(20)))


@checks.add
async def large_answer() -> None:
    async with connected(websocket_kwargs={"max_size": 2**22}) as w3:
        expect(bytes(await w3.eth.get_code(address(1))) == b"\x60" * 400_000, True)


@checks.add
async def options_of_connect() -> None:
    options = {"compression": None, "ping_interval": 0.05, "user_agent_header": "web3"}
    async with connected(websocket_kwargs=options) as w3:
        websocket = w3.provider._ws
        expect(websocket.request.headers["User-Agent"], "web3")
        expect(websocket.protocol.extensions, [])
        await asyncio.sleep(0.2)
        assert websocket.latency > 0


@checks.add
async def subscription() -> None:
    async with connected() as w3:
        expect(await w3.eth.subscribe("newPendingTransactions"), SUBSCRIPTION)
        found = []
        async for response in w3.socket.process_subscriptions():
            found.append(int.from_bytes(response["result"], "big"))
            if len(found) == 50:
                break
        expect(found, list(range(50)))
        expect(await w3.eth.unsubscribe(SUBSCRIPTION), True)


@checks.add
async def ends_with_the_node() -> None:
    async with serving() as (server, port):
        async with AsyncWeb3(WebSocketProvider(f"ws://127.0.0.1:{port}")) as w3:
            expect(await w3.eth.block_number, 16)
            server.close()
            try:
                async for _ in w3.socket.process_subscriptions():
                    raise AssertionError("there was a message")
            except ConnectionClosed as exc:
                assert exc.rcvd is not None
                expect(exc.rcvd.code, 1001)


@checks.add
async def reconnection() -> None:
    connections = 0
    async with serving() as (_, port):
        async for w3 in AsyncWeb3(WebSocketProvider(f"ws://127.0.0.1:{port}")):
            connections += 1
            try:
                expect(await w3.eth.block_number, 16)
                if connections == 3:
                    break
                await w3.provider._ws.close()
                async for _ in w3.socket.process_subscriptions():
                    raise AssertionError("there was a message")
            except ConnectionClosed:
                continue
        await w3.provider.disconnect()
    expect(connections, 3)


asyncio.run(checks.run())
checks.finish()
