"""
CPU time that ``ServerProtocol`` alone spends on the echo of a message, as uvicorn drives it.

Bytes are handed in and taken out; there is no event loop and no socket. Each call to
``receive_data()`` gets one masked frame of 64 bytes. Runs on whichever ``websockets`` is installed
and prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time

from websockets.frames import Opcode
from websockets.server import ServerProtocol

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
KEY = b"\x12\x34\x56\x78"
FRAME = b"\x82\xc0" + KEY + bytes(b ^ KEY[i % 4] for i, b in enumerate(b"x" * 64))
ECHO = b"\x82\x40" + b"x" * 64


def connected() -> ServerProtocol:
    protocol = ServerProtocol()
    protocol.receive_data(REQUEST)
    [request] = protocol.events_received()
    protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
    protocol.data_to_send()
    return protocol


def echo(protocol: ServerProtocol, count: int) -> None:
    for _ in range(count):
        protocol.receive_data(FRAME)
        for event in protocol.events_received():
            if event.opcode is Opcode.BINARY:  # type: ignore[union-attr]
                protocol.send_binary(event.data)  # type: ignore[union-attr]
        output = b"".join(protocol.data_to_send())
        assert output == ECHO


def main(seconds: float) -> None:
    protocol = connected()
    echo(protocol, 1000)
    count, start, began = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - began < seconds:
        echo(protocol, 1000)
        count += 1000
    spent = time.process_time() - start
    print(json.dumps({"messages": count, "cpu_us": round(spent / count * 1e6, 4)}))


if __name__ == "__main__":
    main(float(sys.argv[2]))
