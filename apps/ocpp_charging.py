"""
A charging station and its central system, which speak OCPP over websockets.

The ocpp package is given a connection and calls its recv() and send().
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from checks import Checks, expect
from ocpp.exceptions import OCPPError
from ocpp.routing import after, on
from ocpp.v16 import ChargePoint, call, call_result
from ocpp.v16.enums import Action, AvailabilityStatus, AvailabilityType, RegistrationStatus

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

OCPP = Subprotocol("ocpp1.6")
checks = Checks()


class Central(ChargePoint):
    """What the central system has of each station."""

    booted: asyncio.Event

    @on(Action.boot_notification)
    def on_boot(self, charge_point_model: str, **_: Any) -> Any:
        return call_result.BootNotification("2026-01-01T00:00:00Z", 10, RegistrationStatus.accepted)

    @after(Action.boot_notification)
    def after_boot(self, **_: Any) -> None:
        self.booted.set()

    @on(Action.heartbeat)
    def on_heartbeat(self) -> Any:
        return call_result.Heartbeat("2026-01-01T00:00:00Z")

    @on(Action.data_transfer)
    def on_data(self, vendor_id: str, data: str, **_: Any) -> Any:
        return call_result.DataTransfer("Accepted", data[::-1])


class Station(ChargePoint):
    @on(Action.change_availability)
    def on_availability(self, connector_id: int, type: str) -> Any:
        expect((connector_id, type), (7, AvailabilityType.operative))
        return call_result.ChangeAvailability(AvailabilityStatus.accepted)


@contextlib.asynccontextmanager
async def charging() -> AsyncIterator[tuple[Station, Central]]:
    """Connect a station to a central system, and have both read."""
    arrived: asyncio.Queue[Central] = asyncio.Queue()

    async def handler(websocket: ServerConnection) -> None:
        assert websocket.request is not None
        central = Central(websocket.request.path.strip("/"), websocket)
        central.booted = asyncio.Event()
        arrived.put_nowait(central)
        with contextlib.suppress(ConnectionClosed):
            await central.start()

    async with serve(handler, "127.0.0.1", 0, subprotocols=[OCPP]) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"ws://127.0.0.1:{port}/station-1"
        try:
            async with connect(url):
                raise AssertionError("a station without the subprotocol was let in")
        except InvalidStatus as exc:
            expect(exc.response.status_code, 400)
        async with connect(url, subprotocols=[OCPP]) as websocket:
            station = Station("station-1", websocket)
            reading = asyncio.create_task(station.start())
            yield station, await arrived.get()
        with contextlib.suppress(ConnectionClosed):
            await reading


@checks.add
async def boot() -> None:
    async with charging() as (station, central):
        response = await station.call(call.BootNotification("model", "vendor"))
        expect((response.status, response.interval), (RegistrationStatus.accepted, 10))
        await central.booted.wait()
        expect(central.id, "station-1")


@checks.add
async def calls_from_both_sides() -> None:
    async with charging() as (station, central):
        for _ in range(50):
            change = call.ChangeAvailability(7, AvailabilityType.operative)
            beat, changed = await asyncio.gather(
                station.call(call.Heartbeat()), central.call(change)
            )
            expect(beat.current_time, "2026-01-01T00:00:00Z")
            expect(changed.status, AvailabilityStatus.accepted)


@checks.add
async def large_call() -> None:
    async with charging() as (station, _):
        data = "Grüße 🌍 " * 20_000
        response = await station.call(call.DataTransfer("vendor", data=data))
        expect(response.data == data[::-1], True)


@checks.add
async def call_that_nobody_handles() -> None:
    async with charging() as (station, _):
        try:
            await station.call(call.Authorize("tag"), suppress=False)
        except OCPPError as exc:
            expect(type(exc).__name__, "NotImplementedError")
        else:
            raise AssertionError("there was an answer")


asyncio.run(checks.run())
checks.finish()
