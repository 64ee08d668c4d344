"""
A load generator for TLS: ``tlsload.py load|open PORT PID``.

Raw TLS sockets and frames made beforehand, no WebSocket library. It is slower than one in C would
be, and the same for all: what is measured is the CPU time of the server, process PID. Prints one
line of JSON like wsload's; ``open`` keeps its connections until standard input ends.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import sys
import time

from measure import cpu_seconds

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
KEY = b"\x12\x34\x56\x78"


def header(size: int, masked: bool) -> bytes:
    bit = 0x80 * masked
    if size < 126:
        return bytes([0x82, bit | size])
    if size < 65536:
        return bytes([0x82, bit | 126]) + size.to_bytes(2, "big")
    return bytes([0x82, bit | 127]) + size.to_bytes(8, "big")


def dial(context: ssl.SSLContext, port: int) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tls = context.wrap_socket(plain)
    tls.sendall(REQUEST)
    response = b""
    while not response.endswith(b"\r\n\r\n"):
        data = tls.recv(4096)
        if not data:
            raise SystemExit("handshake failed")
        response += data
    if not response.startswith(b"HTTP/1.1 101"):
        raise SystemExit(f"handshake refused: {response[:60]!r}")
    return tls


def open_only(context: ssl.SSLContext, options: argparse.Namespace) -> None:
    spent, start = cpu_seconds(options.pid), time.perf_counter()
    opened = [dial(context, options.port) for _ in range(options.connections)]
    report(len(opened), time.perf_counter() - start, cpu_seconds(options.pid) - spent, [])
    sys.stdin.read()


def load(context: ssl.SSLContext, options: argparse.Namespace) -> None:
    tls = dial(context, options.port)
    # A frame of zeros is its own masked form but for the key, which then is the payload.
    frame = header(options.size, True) + KEY + (KEY * (options.size // 4 + 1))[: options.size]
    length = len(header(options.size, False)) + options.size
    buffer = bytearray(262144)
    sent = [0.0] * options.window
    next_sent = missing = 0
    counted: int | None = None
    latencies: list[float] = []
    warm = time.perf_counter() + options.warmup
    start = spent = 0.0
    tls.sendall(frame * options.window)
    sent = [time.perf_counter()] * options.window
    while True:
        received = tls.recv_into(buffer)
        if not received:
            raise SystemExit("connection lost")
        now = time.perf_counter()
        whole, missing = divmod(missing + received, length)
        if counted is not None:
            counted += whole
            if now > start + options.seconds:
                break
        elif now > warm:
            counted, start, spent = 0, now, cpu_seconds(options.pid)
        for _ in range(whole):
            if counted:
                latencies.append(now - sent[next_sent])
            sent[next_sent] = now
            next_sent = (next_sent + 1) % options.window
        if whole:
            tls.sendall(frame * whole)
    report(counted, now - start, cpu_seconds(options.pid) - spent, latencies)


def report(messages: int, seconds: float, spent: float, latencies: list[float]) -> None:
    figures = {
        "messages": messages,
        "seconds": round(seconds, 3),
        "msgs_per_s": round(messages / seconds),
        "cpu_us": round(spent / messages * 1e6, 4),
    }
    if latencies:
        latencies.sort()
        for name, part in [("p50_us", 0.5), ("p99_us", 0.99)]:
            figures[name] = round(latencies[int((len(latencies) - 1) * part)] * 1e6, 1)
    print(json.dumps(figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["load", "open"])
    parser.add_argument("port", type=int)
    parser.add_argument("pid", type=int)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--window", type=int, default=1)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--warmup", type=float, default=0.3)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    (open_only if options.mode == "open" else load)(context, options)


if __name__ == "__main__":
    main()
