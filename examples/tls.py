"""
An encrypted connection: a server with its certificate, and a client that trusts it.

A certificate to try it with, which nobody else trusts:

    openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out certificate.pem -days 30 \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost

    python tls.py certificate.pem key.pem
"""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve


async def handler(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def main(certificate: str, key: str) -> None:
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate, key)

    # With a certificate that the system trusts, the client needs no context.
    client_context = ssl.create_default_context(cafile=certificate)

    async with serve(handler, "localhost", 8765, ssl=server_context):
        async with connect("wss://localhost:8765", ssl=client_context) as websocket:
            await websocket.send("Hello!")
            print(await websocket.recv())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
