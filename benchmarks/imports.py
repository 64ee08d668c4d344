"""
CPU time that importing a library's client adds to ``import asyncio, ssl``.

Prints one line of JSON. A fresh process tells it once; compiled bytecode is there after the first.
"""

import asyncio  # noqa: F401
import json
import ssl  # noqa: F401
import sys
import time

library = sys.argv[1]
if library == "websockets":
    # An extra, which is only here because picows depends on it. It would be imported, too.
    sys.modules["python_socks"] = None  # type: ignore[assignment]
start, began = time.process_time(), time.perf_counter()
if library == "websockets":
    import websockets

    websockets.connect  # noqa: B018 - it is only imported when it is asked for
elif library == "picows":
    import picows

    picows.ws_connect  # noqa: B018
elif library == "picows.websockets":
    from picows.websockets.asyncio.client import connect  # noqa: F401
elif library == "aiohttp":
    import aiohttp

    aiohttp.ClientSession  # noqa: B018
spent, took = time.process_time() - start, time.perf_counter() - began
print(json.dumps({"import_ms": round(spent * 1e3, 3), "wall_ms": round(took * 1e3, 3)}))
