"""What ``anext(websocket)`` and the coroutines of a connection may be used for.

An application may do with them whatever Python allows with a coroutine: never await them, await
them from any task, drive them by hand, throw into them, drop them half-way. None of that may lose
a message, leave the connection marked as receiving, or disturb the next one who receives.

Where the moment matters, bytes arrive by a call of ``data_received()``, the entrance of transports
that do not receive into buffers: from within a task, or from the event loop as a transport does.
"""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import contextvars
import gc
import inspect
import sys
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
import pytest_asyncio

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
)

from ..helpers import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    client_frame,
    close_payload,
    connecting,
    echo,
    pair,
    raw_client,
    server_of_raw_client,
    serving,
    stalled,
    turns,
    until,
    within,
)

CONCURRENT = r"^cannot call recv while another coroutine is already running recv or recv_streaming$"


def texts(*messages: object) -> bytes:
    """Text messages on the wire, as a client sends them."""
    return b"".join(client_frame(TEXT, str(message).encode()) for message in messages)


def arrive(ws: Any, data: bytes) -> None:
    """Have bytes arrive now, inside the task that calls."""
    ws.data_received(data)


async def arrive_from_loop(ws: Any, data: bytes) -> None:
    """Have bytes arrive as they do from a transport: in a callback, no task running."""
    arrived = asyncio.get_running_loop().create_future()

    def callback() -> None:
        ws.data_received(data)
        arrived.set_result(None)

    asyncio.get_running_loop().call_soon(callback)
    await arrived


async def arrive_in_task(ws: Any, data: bytes) -> None:
    arrive(ws, data)


WAYS_TO_ARRIVE = {"from the loop": arrive_from_loop, "inside a task": arrive_in_task}

however_it_arrives = pytest.mark.parametrize(
    "arriving", WAYS_TO_ARRIVE.values(), ids=list(WAYS_TO_ARRIVE)
)

RECEIVERS: dict[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {
    "anext": lambda ws: ws.__anext__(),
    "recv": lambda ws: ws.recv(),
}

every_receiver = pytest.mark.parametrize("receiver", RECEIVERS.values(), ids=list(RECEIVERS))


@pytest_asyncio.fixture
async def ws() -> AsyncIterator[ServerConnection]:
    """The server's end of a connection whose client says nothing on its own."""
    async with server_of_raw_client() as (server, _):
        yield server


async def assert_sound(ws: Any) -> None:
    """Nobody is receiving, nothing is left over, and the next message reaches the next receiver."""
    for receive in (anext, RECEIVERS["recv"]):
        receiving = asyncio.ensure_future(receive(ws))
        await turns(3)
        assert not receiving.done()
        await arrive_from_loop(ws, texts("sound"))
        assert await within(receiving) == "sound"


@contextlib.contextmanager
def never_awaited() -> Iterator[None]:
    """Python may warn of a coroutine that is dropped before it has started."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        yield
        gc.collect()


# What they are


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("recv", ()),
        ("send", ("x",)),
        ("ping", ()),
        ("pong", ()),
        ("close", ()),
        ("wait_closed", ()),
        ("__anext__", ()),
    ],
)
async def test_methods_return_coroutines(
    ws: ServerConnection, method: str, args: tuple[Any, ...]
) -> None:
    made = getattr(ws, method)(*args)
    try:
        assert asyncio.iscoroutine(made)
        assert inspect.isawaitable(made)
        assert isinstance(made, collections.abc.Coroutine)
    finally:
        made.close()


@pytest.mark.parametrize("cls", [ServerConnection, ClientConnection])
@pytest.mark.parametrize("method", ["recv", "send", "ping", "pong", "close", "wait_closed"])
def test_methods_are_coroutine_functions(cls: type, method: str) -> None:
    """Frameworks and mocks ask."""
    assert inspect.iscoroutinefunction(getattr(cls, method))


async def test_iterators(ws: ServerConnection) -> None:
    assert isinstance(ws, collections.abc.AsyncIterable)
    assert isinstance(aiter(ws), collections.abc.AsyncIterator)


# Created, and not awaited, or late, or twice


@every_receiver
async def test_never_awaited(ws: ServerConnection, receiver: Callable[[Any], Any]) -> None:
    """Calling is not receiving: what was called and dropped took no message and holds no place."""
    with never_awaited():
        for _ in range(3):
            receiver(ws)
    arrive(ws, texts("one", "two"))
    with never_awaited():
        receiver(ws)
    assert await within(receiver(ws)) == "one"
    assert await within(receiver(ws)) == "two"
    await assert_sound(ws)


@every_receiver
async def test_closed_before_it_started(
    ws: ServerConnection, receiver: Callable[[Any], Any]
) -> None:
    arrive(ws, texts("one"))
    receiver(ws).close()
    assert await within(receiver(ws)) == "one"
    await assert_sound(ws)


@every_receiver
async def test_thrown_into_before_it_started(
    ws: ServerConnection, receiver: Callable[[Any], Any]
) -> None:
    arrive(ws, texts("one"))
    with pytest.raises(LookupError):
        receiver(ws).throw(LookupError())
    assert await within(receiver(ws)) == "one"
    await assert_sound(ws)


@every_receiver
async def test_awaited_in_another_order(
    ws: ServerConnection, receiver: Callable[[Any], Any]
) -> None:
    """Messages go to those who await, in the order in which they do."""
    first, second, third = receiver(ws), receiver(ws), receiver(ws)
    arrive(ws, texts("one", "two"))
    assert await within(third) == "one"
    assert await within(first) == "two"
    waiting = asyncio.ensure_future(second)
    await turns(3)
    await arrive_from_loop(ws, texts("three"))
    assert await within(waiting) == "three"


@every_receiver
async def test_created_long_before_the_end(
    ws: ServerConnection, receiver: Callable[[Any], Any]
) -> None:
    early = receiver(ws)
    ws.transport.abort()
    await within(ws.wait_closed())
    with pytest.raises(ConnectionClosedError):
        await within(early)


@every_receiver
async def test_awaited_twice(ws: ServerConnection, receiver: Callable[[Any], Any]) -> None:
    """The second time is an error, and takes no message."""
    for waits in (False, True):
        awaitable = receiver(ws)
        if waits:
            receiving = asyncio.ensure_future(awaitable)
            await turns(3)
            await arrive_from_loop(ws, texts("one"))
            assert await within(receiving) == "one"
            arrive(ws, texts("two"))
        else:
            arrive(ws, texts("one", "two"))
            assert await within(awaitable) == "one"
        with pytest.raises(RuntimeError):
            await within(awaitable)
        assert await within(receiver(ws)) == "two"
    await assert_sound(ws)


@every_receiver
async def test_awaited_by_two_tasks(ws: ServerConnection, receiver: Callable[[Any], Any]) -> None:
    """The second task is told so; the first one goes on waiting, and gets its message."""
    awaitable = receiver(ws)

    async def wait() -> Any:
        return await awaitable

    first = asyncio.create_task(wait())
    await turns(3)
    with pytest.raises(RuntimeError):
        await within(wait())
    await turns(3)
    assert not first.done()
    await arrive_from_loop(ws, texts("one"))
    assert await within(first) == "one"
    await assert_sound(ws)


# Wrapped


async def in_create_task(awaitable: Any) -> Any:
    return await asyncio.create_task(awaitable)


async def in_ensure_future(awaitable: Any) -> Any:
    return await asyncio.ensure_future(awaitable)


async def in_gather(awaitable: Any) -> Any:
    (message,) = await asyncio.gather(awaitable)
    return message


async def in_wait_for(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, 5)


async def in_endless_wait_for(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, None)


async def in_timeout(awaitable: Any) -> Any:
    async with asyncio.timeout(5):
        return await awaitable


async def in_shield(awaitable: Any) -> Any:
    return await asyncio.shield(awaitable)


async def in_as_completed(awaitable: Any) -> Any:
    for next_one in asyncio.as_completed([awaitable]):
        return await next_one


async def in_task_group(awaitable: Any) -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(awaitable)
    return task.result()


async def in_another_thread(awaitable: Any) -> Any:
    future = asyncio.run_coroutine_threadsafe(awaitable, asyncio.get_running_loop())
    return await asyncio.wrap_future(future)


async def in_a_task_with_a_context(awaitable: Any) -> Any:
    return await asyncio.create_task(awaitable, context=contextvars.Context())


async def in_itself(awaitable: Any) -> Any:
    return await awaitable


WRAPPERS = [
    in_create_task,
    in_ensure_future,
    in_gather,
    in_wait_for,
    in_endless_wait_for,
    in_timeout,
    in_shield,
    in_as_completed,
    in_task_group,
    in_another_thread,
    in_a_task_with_a_context,
    in_itself,
]

every_wrapper = pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda function: function.__name__)


@every_receiver
@every_wrapper
async def test_wrapped(
    ws: ServerConnection,
    receiver: Callable[[Any], Any],
    wrapper: Callable[[Any], Coroutine[Any, Any, Any]],
) -> None:
    """Whatever it is wrapped in: with the message there already, and with the task there first."""
    for i in range(5):
        arrive(ws, texts(i))
        assert await within(wrapper(receiver(ws))) == str(i)
    for arriving in WAYS_TO_ARRIVE.values():
        for i in range(5):
            receiving = asyncio.create_task(wrapper(receiver(ws)))
            await turns(5)
            assert not receiving.done()
            await arriving(ws, texts(i))
            assert await within(receiving) == str(i)
    await assert_sound(ws)


@every_receiver
@every_wrapper
async def test_wrapped_to_the_end(
    receiver: Callable[[Any], Any], wrapper: Callable[[Any], Coroutine[Any, Any, Any]]
) -> None:
    """The connection closes: `recv` and `anext` each say so in their own way."""
    async with server_of_raw_client() as (ws, peer):
        receiving = asyncio.create_task(wrapper(receiver(ws)))
        await turns(5)
        await peer.send_close(1000)
        peer.send_eof()
        raised: list[BaseException] = []
        try:
            await within(receiving)
        except* BaseException as group:
            raised += group.exceptions
        (exc,) = raised
        if isinstance(exc, ExceptionGroup):  # of the task group
            (exc,) = exc.exceptions
        if isinstance(exc, RuntimeError):  # what a coroutine makes of StopAsyncIteration
            assert exc.__cause__ is not None
            exc = exc.__cause__
        expected = ConnectionClosedOK if receiver is RECEIVERS["recv"] else StopAsyncIteration
        assert isinstance(exc, expected)


@every_receiver
@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
async def test_eager_tasks(ws: ServerConnection, receiver: Callable[[Any], Any]) -> None:
    """A task that starts inside `create_task` ends there, if the message is there."""
    loop = asyncio.get_running_loop()

    def start() -> asyncio.Task[Any]:
        factory: Any = asyncio.eager_task_factory  # type: ignore[attr-defined]
        return factory(loop, receiver(ws))  # type: ignore[no-any-return]

    arrive(ws, texts("one"))
    task = start()
    assert task.done()
    assert task.result() == "one"
    for arriving in WAYS_TO_ARRIVE.values():
        task = start()
        assert not task.done()
        with pytest.raises(ConcurrencyError):
            await receiver(ws)
        await arriving(ws, texts("two"))
        assert await within(task) == "two"
    task = start()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_sound(ws)


# anext() with a default


async def test_anext_with_a_default(ws: ServerConnection) -> None:
    arrive(ws, texts("one"))
    assert await within(anext(ws, "nothing")) == "one"

    async def receive() -> Any:
        return await anext(ws, "nothing")

    for arriving in WAYS_TO_ARRIVE.values():
        receiving = asyncio.create_task(receive())
        await turns(3)
        await arriving(ws, texts("two"))
        assert await within(receiving) == "two"
    receiving = asyncio.create_task(receive())
    await turns(3)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    with never_awaited():
        anext(ws, "nothing")
    await assert_sound(ws)


@pytest.mark.parametrize("waits", [False, True])
async def test_anext_with_a_default_at_the_end(waits: bool) -> None:
    async with server_of_raw_client() as (ws, peer):

        async def receive() -> Any:
            return await anext(ws, "nothing")

        receiving = asyncio.create_task(receive()) if waits else None
        await turns(3)
        await peer.send_close(1001)
        peer.send_eof()
        await within(ws.wait_closed())
        assert await within(receiving or receive()) == "nothing"
        assert await within(receive()) == "nothing"


async def test_anext_with_a_default_after_an_error() -> None:
    """The default is for the end, not for failures."""
    async with server_of_raw_client() as (ws, peer):
        await peer.send_close(1011)
        peer.send_eof()
        with pytest.raises(ConnectionClosedError):
            await within(anext(ws, "nothing"))


# Two at once


@every_receiver
async def test_two_tasks_at_once(ws: ServerConnection, receiver: Callable[[Any], Any]) -> None:
    """The second one is refused, every time, and the first one does not notice."""
    for other in (*RECEIVERS.values(), lambda ws: anext(aiter(ws))):
        first = asyncio.create_task(receiver(ws))
        await turns(3)
        for _ in range(3):
            with pytest.raises(ConcurrencyError, match=CONCURRENT):
                await within(other(ws))
        refused = asyncio.create_task(other(ws))
        await turns(3)
        assert isinstance(refused.exception(), ConcurrencyError)
        await turns(3)
        assert not first.done()
        await arrive_from_loop(ws, texts("one"))
        assert await within(first) == "one"
    await assert_sound(ws)


@every_receiver
async def test_beside_recv_streaming(ws: ServerConnection, receiver: Callable[[Any], Any]) -> None:
    """Between two fragments, the message belongs to the one that streams it."""
    arrive(ws, client_frame(TEXT, b"o", fin=False))
    streaming = ws.recv_streaming()
    assert await within(anext(streaming)) == "o"
    with pytest.raises(ConcurrencyError, match=CONCURRENT):
        await within(receiver(ws))
    arrive(ws, client_frame(CONT, b"ne") + texts("two"))
    with pytest.raises(ConcurrencyError, match=CONCURRENT):
        await within(receiver(ws))
    assert await within(anext(streaming)) == "ne"
    with pytest.raises(StopAsyncIteration):
        await within(anext(streaming))
    assert await within(receiver(ws)) == "two"
    await assert_sound(ws)


@every_receiver
async def test_recv_streaming_beside_it(
    ws: ServerConnection, receiver: Callable[[Any], Any]
) -> None:
    first = asyncio.create_task(receiver(ws))
    await turns(3)
    with pytest.raises(ConcurrencyError, match=r"^cannot call recv_streaming while another"):
        await within(anext(ws.recv_streaming()))
    await arrive_from_loop(ws, texts("one"))
    assert await within(first) == "one"


@every_receiver
@however_it_arrives
async def test_the_place_is_free_again_with_the_message(
    ws: ServerConnection, receiver: Callable[[Any], Any], arriving: Callable[..., Awaitable[None]]
) -> None:
    """The task that got a message may hand the next one to another task at once."""

    async def relay() -> list[Any]:
        mine = await receiver(ws)
        return [mine, await asyncio.create_task(receiver(ws)), await receiver(ws)]

    receiving = asyncio.create_task(relay())
    await turns(3)
    await arriving(ws, texts("one", "two"))
    await turns(3)
    await arriving(ws, texts("three"))
    assert await within(receiving) == ["one", "two", "three"]


# Driven by hand


@every_receiver
async def test_a_message_that_is_there_needs_no_event_loop(
    ws: ServerConnection, receiver: Callable[[Any], Any]
) -> None:
    arrive(ws, texts("one"))
    with pytest.raises(StopIteration) as result:
        receiver(ws).send(None)
    assert result.value.value == "one"
    await assert_sound(ws)


@every_receiver
async def test_through_its_iterator(ws: ServerConnection, receiver: Callable[[Any], Any]) -> None:
    """`__await__` is what other languages' and frameworks' tasks call."""
    arrive(ws, texts("one"))
    with pytest.raises(StopIteration) as result:
        next(receiver(ws).__await__())
    assert result.value.value == "one"
    arrive(ws, texts("one and a half"))
    with pytest.raises(StopIteration) as result:
        receiver(ws).__await__().__next__()
    assert result.value.value == "one and a half"

    class Delegate:
        def __await__(self) -> Any:
            return receiver(ws).__await__()

    class Generator:
        def __await__(self) -> Any:
            return (yield from receiver(ws).__await__())

    async def wait(made: Any) -> Any:
        return await made

    for made in (Delegate(), Generator()):
        receiving = asyncio.create_task(wait(made))
        await turns(3)
        await arrive_from_loop(ws, texts("two"))
        assert await within(receiving) == "two"
    await assert_sound(ws)


def bare(ws: Any, receiver: Callable[[Any], Any]) -> Any:
    return receiver(ws)


def iterator(ws: Any, receiver: Callable[[Any], Any]) -> Any:
    made = receiver(ws).__await__()
    made.send  # noqa: B018 - it has one, as generators have
    return made


def inside_a_coroutine(ws: Any, receiver: Callable[[Any], Any]) -> Any:
    async def wait() -> Any:
        return await receiver(ws)

    return wait()


def inside_an_iteration(ws: Any, _: Callable[[Any], Any]) -> Any:
    async def wait() -> Any:
        async for message in ws:
            return message

    return wait()


SHELLS = [bare, iterator, inside_a_coroutine, inside_an_iteration]

every_shell = pytest.mark.parametrize("shell", SHELLS, ids=lambda function: function.__name__)


@every_receiver
@every_shell
async def test_closed_while_it_waits(
    ws: ServerConnection, receiver: Callable[[Any], Any], shell: Callable[..., Any]
) -> None:
    """Whoever closes it has stopped receiving; a message that comes then is for the next one."""
    made = shell(ws, receiver)
    waited_for = made.send(None)
    assert waited_for._asyncio_future_blocking
    made.close()
    made.close()
    await assert_sound(ws)
    arrive(ws, texts("one"))
    assert await within(receiver(ws)) == "one"


@every_receiver
@every_shell
@pytest.mark.parametrize("arrived", [False, True])
async def test_thrown_into_while_it_waits(
    ws: ServerConnection, receiver: Callable[[Any], Any], shell: Callable[..., Any], arrived: bool
) -> None:
    """What is thrown comes out, also when a message has come meanwhile, which then stays."""
    for thrown in (LookupError("thrown"), asyncio.CancelledError(), KeyboardInterrupt()):
        made = shell(ws, receiver)
        made.send(None)
        if arrived:
            arrive(ws, texts("one"))
        with pytest.raises(type(thrown)) as raised:
            made.throw(thrown)
        assert raised.value is thrown
        if arrived:
            assert await within(receiver(ws)) == "one"
        await assert_sound(ws)


@every_receiver
async def test_a_class_is_thrown(ws: ServerConnection, receiver: Callable[[Any], Any]) -> None:
    """As into any coroutine, an exception may be thrown as its class."""
    made = receiver(ws)
    made.send(None)
    with pytest.raises(LookupError):
        made.throw(LookupError)
    await assert_sound(ws)


@every_receiver
async def test_thrown_into_when_it_has_ended(
    ws: ServerConnection, receiver: Callable[[Any], Any]
) -> None:
    made = receiver(ws)
    arrive(ws, texts("one"))
    with pytest.raises(StopIteration):
        made.send(None)
    with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
        made.throw(LookupError())
    await assert_sound(ws)


@every_receiver
@every_shell
@pytest.mark.parametrize("throws", [False, True])
async def test_left_in_the_middle_of_a_message(
    ws: ServerConnection, receiver: Callable[[Any], Any], shell: Callable[..., Any], throws: bool
) -> None:
    """Some fragments are there; whoever receives next has the whole message."""
    arrive(ws, client_frame(TEXT, b"one", fin=False))
    made = shell(ws, receiver)
    made.send(None)
    if throws:
        with pytest.raises(LookupError):
            made.throw(LookupError())
    else:
        made.close()
    arrive(ws, client_frame(CONT, b" and two"))
    assert await within(receiver(ws)) == "one and two"
    await assert_sound(ws)


@every_receiver
async def test_caught_where_it_was_thrown(
    ws: ServerConnection, receiver: Callable[[Any], Any]
) -> None:
    """The coroutine around it catches the exception and receives again."""

    async def stubborn() -> Any:
        try:
            return await receiver(ws)
        except LookupError:
            return await receiver(ws)

    made = stubborn()
    made.send(None)
    made.throw(LookupError())
    arrive(ws, texts("one"))
    with pytest.raises(StopIteration) as result:
        made.send(None)
    assert result.value.value == "one"
    await assert_sound(ws)


@every_receiver
@every_shell
async def test_dropped_while_it_waits(
    ws: ServerConnection, receiver: Callable[[Any], Any], shell: Callable[..., Any]
) -> None:
    """Dropping it closes it."""
    made = shell(ws, receiver)
    made.send(None)
    del made
    gc.collect()
    await assert_sound(ws)


# Cancellation and arrival in one turn

Steps = Callable[[Any, "asyncio.Task[Any]"], None]


def cancel_then_arrive(ws: Any, task: asyncio.Task[Any]) -> None:
    task.cancel()
    arrive(ws, texts("one"))


def arrive_then_cancel(ws: Any, task: asyncio.Task[Any]) -> None:
    arrive(ws, texts("one"))
    task.cancel()


@pytest.mark.parametrize("steps", [cancel_then_arrive, arrive_then_cancel])
@pytest.mark.parametrize("from_loop", [False, True], ids=["inside a task", "from the loop"])
@every_receiver
async def test_cancellation_in_the_turn_of_a_message(
    ws: ServerConnection, receiver: Callable[[Any], Any], steps: Steps, from_loop: bool
) -> None:
    """Either the task gets the message, or it is cancelled and the message stays."""
    for _ in range(10):
        task = asyncio.ensure_future(receiver(ws))
        await turns(3)
        if from_loop:
            asyncio.get_running_loop().call_soon(steps, ws, task)
        else:
            steps(ws, task)
        await within(asyncio.wait([task]))
        if task.cancelled():
            assert await within(receiver(ws)) == "one"
        else:
            assert task.result() == "one"
            assert steps is arrive_then_cancel
        await assert_sound(ws)


@every_receiver
async def test_cancellation_is_not_swallowed_by_a_message(
    ws: ServerConnection, receiver: Callable[[Any], Any]
) -> None:
    """A task that was cancelled first does not run on because a message came as well."""
    ran_on = []

    async def receive() -> None:
        ran_on.append(await receiver(ws))

    for from_loop in (False, True):
        task = asyncio.create_task(receive())
        await turns(3)
        if from_loop:
            asyncio.get_running_loop().call_soon(cancel_then_arrive, ws, task)
        else:
            cancel_then_arrive(ws, task)
        await within(asyncio.wait([task]))
        assert task.cancelled()
        assert await within(receiver(ws)) == "one"
    assert ran_on == []


BEHIND = {
    "a message": texts("two"),
    "two messages": texts("two", "three"),
    "a ping and a message": client_frame(PING, b"?") + texts("two"),
    "fragments": client_frame(TEXT, b"t", fin=False) + client_frame(CONT, b"wo"),
    "the end": client_frame(CLOSE, close_payload(1000)),
}


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("behind", BEHIND.values(), ids=list(BEHIND))
@pytest.mark.parametrize("moment", ["inside a task", "in the context of the task"])
@every_receiver
async def test_arrivals_before_the_receiver_has_its_turn(
    receiver: Callable[[Any], Any], moment: str, behind: bytes, cancelled: bool
) -> None:
    """A task that could not be resumed at once still gets the first message, others the rest."""
    async with server_of_raw_client() as (ws, peer):
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()

        async def receive() -> Any:
            return await receiver(ws)

        task = asyncio.create_task(receive(), context=context)
        await turns(3)

        def arrivals() -> None:
            arrive(ws, texts("one"))
            if cancelled:
                task.cancel()
            arrive(ws, behind)

        if moment == "inside a task":
            arrivals()
        else:
            loop.call_soon(arrivals, context=context)
        await within(asyncio.wait([task]))
        received = [] if task.cancelled() else [task.result()]
        if behind == BEHIND["the end"]:
            peer.send_eof()
            received += [message async for message in ws]
            assert received == ["one"]
            return
        count = 3 if behind == BEHIND["two messages"] else 2
        while len(received) < count:
            received.append(await within(receiver(ws)))
        assert received == ["one", "two", "three"][:count]
        await assert_sound(ws)


@pytest.mark.parametrize("deadline", ["wait_for", "timeout"])
@every_receiver
async def test_deadline_in_the_turn_of_a_message(
    ws: ServerConnection, receiver: Callable[[Any], Any], deadline: str
) -> None:
    """Whichever comes first: every message is received once, and in order."""
    loop = asyncio.get_running_loop()
    received = []
    for i in range(30):
        # Before, with and behind the deadline.
        loop.call_later(0.002 + (i % 3 - 1) * 0.0002, arrive, ws, texts(i))
        try:
            if deadline == "timeout":
                async with asyncio.timeout(0.002):
                    received.append(await receiver(ws))
            else:
                received.append(await asyncio.wait_for(receiver(ws), 0.002))
        except TimeoutError:
            received.append(await within(receiver(ws)))
    assert received == [str(i) for i in range(30)]
    await assert_sound(ws)


@every_receiver
async def test_cancelled_twice(ws: ServerConnection, receiver: Callable[[Any], Any]) -> None:
    task = asyncio.ensure_future(receiver(ws))
    await turns(3)
    task.cancel("first")
    task.cancel("second")
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_sound(ws)


@every_receiver
async def test_message_of_a_cancellation(
    ws: ServerConnection, receiver: Callable[[Any], Any]
) -> None:
    async def receive() -> None:
        try:
            await receiver(ws)
        except asyncio.CancelledError as exc:
            raise LookupError(*exc.args) from None

    task = asyncio.create_task(receive())
    await turns(3)
    task.cancel("because")
    with pytest.raises(LookupError, match="^because$"):
        await within(task)


@every_receiver
async def test_a_task_that_refuses_to_be_cancelled(
    ws: ServerConnection, receiver: Callable[[Any], Any]
) -> None:
    async def stubborn() -> Any:
        while True:
            try:
                return await receiver(ws)
            except asyncio.CancelledError:
                pass

    task = asyncio.create_task(stubborn())
    for _ in range(5):
        await turns(3)
        task.cancel()
    await turns(3)
    assert not task.done()
    await arrive_from_loop(ws, texts("one"))
    assert await within(task) == "one"
    await assert_sound(ws)


@every_receiver
async def test_cancelled_before_it_started(
    ws: ServerConnection, receiver: Callable[[Any], Any]
) -> None:
    arrive(ws, texts("one"))
    with never_awaited():
        task = asyncio.ensure_future(receiver(ws))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await within(receiver(ws)) == "one"
    await assert_sound(ws)


async def test_cancelled_with_the_end_of_the_connection(ws: ServerConnection) -> None:
    """Both in one turn: the task ends, one way or the other, and nobody is left waiting."""
    task = asyncio.ensure_future(ws.__anext__())
    await turns(3)
    ws.transport.abort()
    task.cancel()
    await within(asyncio.wait([task]))
    assert task.cancelled() or isinstance(task.exception(), ConnectionClosedError)
    with pytest.raises(ConnectionClosedError):
        await within(anext(ws))


# References


async def test_a_waiting_task_is_kept() -> None:
    """Event loops hold tasks weakly; the connection that one waits for holds it."""
    async with server_of_raw_client() as (ws, peer):
        received = []

        async def receive() -> None:
            async for message in ws:
                received.append(message)

        task = weakref.ref(asyncio.create_task(receive()))
        await turns(3)
        gc.collect()
        assert task() is not None
        for i in range(3):
            await peer.send(texts(i))
            await until(lambda i=i: len(received) == i + 1)
            gc.collect()
        await peer.send_close()
        await until(lambda: task() is None)
        assert received == ["0", "1", "2"]


@every_receiver
async def test_a_message_is_held_by_its_receiver_alone(
    ws: ServerConnection, receiver: Callable[[Any], Any]
) -> None:
    payload = b"x" * 100_000
    for waits in (False, True):
        if waits:
            asyncio.get_running_loop().call_soon(arrive, ws, client_frame(BINARY, payload))
        else:
            arrive(ws, client_frame(BINARY, payload))
        message = await receiver(ws)
        assert len(message) == len(payload)
        # One reference is the variable's, another the argument's, where that counts.
        assert sys.getrefcount(message) <= 2
        del message


@every_receiver
async def test_a_connection_is_not_kept_by_what_received_from_it(
    receiver: Callable[[Any], Any],
) -> None:
    forgotten = []
    async with serving(echo) as server:
        for waits in (False, True):
            client = await connecting(server)
            if waits:
                receiving = asyncio.ensure_future(receiver(client))
                await turns(3)
                await client.send("one")
                assert await within(receiving) == "one"
                del receiving
            receiving = asyncio.ensure_future(receiver(client))
            await turns(3)
            receiving.cancel()
            await asyncio.wait([receiving])
            await within(client.close())
            forgotten.append(weakref.ref(client))
            del client, receiving
    await turns()
    gc.collect()
    assert [ref() for ref in forgotten] == [None, None]


# Subclasses


class Shouting(ServerConnection):
    """Overrides what an application may override, and counts."""

    sent = 0

    async def recv(self, decode: bool | None = None) -> Any:
        message = await super().recv(decode)
        return message.upper()

    async def send(self, message: Any, *, text: bool | None = None) -> None:
        self.sent += 1
        await super().send(message, text=text)


class Numbering(ServerConnection):
    """Overrides the iteration."""

    number = 0

    async def __anext__(self) -> Any:
        message = await super().__anext__()
        self.number += 1
        return f"{self.number}: {message!r}"


class Renewing(ServerConnection):
    """Iterates through an iterator of its own."""

    async def __aiter__(self) -> AsyncIterator[Any]:  # type: ignore[override]
        yield "first of all"
        try:
            while True:
                yield await self.recv()
        except ConnectionClosedOK:
            return


async def echo_iterated(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


async def echo_received(ws: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosedOK):
        while True:
            await ws.send(await ws.recv())


@pytest.mark.parametrize(
    ("handler", "messages"),
    [
        pytest.param(echo_received, ["one", "two"], id="recv and send"),
        pytest.param(echo_iterated, ["ONE", "TWO"], id="send under iteration"),
    ],
)
async def test_recv_and_send_overridden(
    handler: Callable[[ServerConnection], Any], messages: list[str]
) -> None:
    async with (
        serving(handler, create_connection=Shouting) as server,
        raw_client(server) as peer,
    ):
        await peer.send(texts(*messages))
        assert (await peer.recv_frame()).payload == b"ONE"
        assert (await peer.recv_frame()).payload == b"TWO"
        (connection,) = server.connections
        assert isinstance(connection, Shouting)
        assert connection.sent == 2
        await peer.send_close()
        await peer.read_to_end()


async def test_anext_overridden() -> None:
    async with (
        serving(echo_iterated, create_connection=Numbering) as server,
        raw_client(server) as peer,
    ):
        await peer.send(texts("one", "two"))
        assert (await peer.recv_frame()).payload == b"1: 'one'"
        assert (await peer.recv_frame()).payload == b"2: 'two'"
        await turns()
        await peer.send(texts("three") + client_frame(CLOSE, close_payload(1000)))
        assert (await peer.recv_frame()).payload == b"3: 'three'"
        assert (await peer.recv_frame()).close == (1000, "")
        await peer.read_to_end()


async def test_aiter_overridden() -> None:
    async with (
        serving(echo_iterated, create_connection=Renewing) as server,
        raw_client(server) as peer,
    ):
        assert (await peer.recv_frame()).payload == b"first of all"
        await peer.send(texts("one"))
        assert (await peer.recv_frame()).payload == b"one"
        await peer.send_close()
        await peer.read_to_end()


async def test_methods_replaced_on_one_connection() -> None:
    """As applications do to log or count."""
    async with pair() as (client, server):
        log = []
        send = server.send

        async def logging_send(message: Any, **kwargs: Any) -> None:
            log.append(message)
            await send(message, **kwargs)

        server.send = logging_send  # type: ignore[method-assign]
        await server.send("one")
        assert await within(client.recv()) == "one"
        assert log == ["one"]


# Handlers, at the moment of delivery


class Unexpected(BaseException):
    """Nobody catches this by mistake."""


@pytest.mark.parametrize("raised", [LookupError, ConnectionClosedOK, StopIteration, Unexpected])
@however_it_arrives
async def test_exception_right_at_delivery(
    raised: type[BaseException], arriving: Callable[..., Awaitable[None]]
) -> None:
    """It is the task's own: not the transport's, the event loop's, or the next receiver's."""
    async with server_of_raw_client() as (ws, _):

        async def receive() -> None:
            async for _ in ws:
                if raised is ConnectionClosedOK:
                    raise ConnectionClosedOK(None, None)
                raise raised

        task = asyncio.create_task(receive())
        await turns(3)
        await arriving(ws, texts("one", "two"))
        await within(asyncio.wait([task]))
        exc = task.exception()
        if raised is StopIteration:  # what a coroutine makes of it
            assert isinstance(exc, RuntimeError)
        else:
            assert isinstance(exc, raised)
        assert await within(ws.recv()) == "two"
        await assert_sound(ws)


async def test_handlers_that_raise_do_not_disturb_their_neighbours() -> None:
    """All connections receive into one buffer, in which the rest of the batch is still lying."""

    async def handler(ws: ServerConnection) -> None:
        async for message in ws:
            if message == "raise":
                raise Exception("as the test wants")
            await ws.send(message)

    async with serving(handler) as server, raw_client(server) as bystander:
        for i in range(10):
            async with raw_client(server) as peer:
                await peer.send(texts("before", "raise", "after") + texts("x" * 1000) * 10)
                await bystander.send(texts(i, i + 1))
                assert (await peer.recv_frame()).payload == b"before"
                assert (await peer.recv_frame()).close == (1011, "")
                assert (await bystander.recv_frame()).payload == str(i).encode()
                assert (await bystander.recv_frame()).payload == str(i + 1).encode()
                await peer.send_close(1011)
                await peer.read_to_end()
        await bystander.send_close()
        await bystander.read_to_end()


@however_it_arrives
async def test_a_receiver_that_awaits_something_else(
    arriving: Callable[..., Awaitable[None]],
) -> None:
    """What arrives meanwhile waits in the queue, in order, and wakes nobody."""
    async with server_of_raw_client() as (ws, _):
        received: list[Any] = []
        go_on = asyncio.Event()

        async def receive() -> None:
            async for message in ws:
                received.append(message)
                await go_on.wait()

        task = asyncio.create_task(receive())
        await turns(3)
        await arriving(ws, texts("one"))
        await turns(3)
        assert received == ["one"]
        await arriving(ws, texts("two", "three"))
        await turns(3)
        assert received == ["one"]
        go_on.set()
        await turns(5)
        assert received == ["one", "two", "three"]
        await arriving(ws, texts("four"))
        await turns(3)
        assert received == ["one", "two", "three", "four"]
        task.cancel()
        await asyncio.wait([task])


async def test_a_receiver_that_awaits_another_connection() -> None:
    async with server_of_raw_client() as (one, _), server_of_raw_client() as (other, _):
        received = []

        async def receive() -> None:
            while True:
                received.append(await anext(one))
                received.append(await anext(other))

        task = asyncio.create_task(receive())
        await turns(3)
        await arrive_from_loop(other, texts("2", "4"))
        await turns(3)
        assert received == []
        await arrive_from_loop(one, texts("1"))
        await turns(3)
        assert received == ["1", "2"]
        await arrive_from_loop(one, texts("3", "5"))
        await turns(3)
        assert received == ["1", "2", "3", "4", "5"]
        await arrive_from_loop(other, texts("6"))
        await turns(3)
        assert received == ["1", "2", "3", "4", "5", "6"]
        task.cancel()
        await asyncio.wait([task])


async def test_messages_while_the_receiver_is_suspended_in_send() -> None:
    """Pings are heard, what arrives is queued, and nothing wakes the task but room to write."""
    async with server_of_raw_client(small_buffers=True, max_queue=None) as (ws, peer):
        received: list[Any] = []
        sent = 0

        async def receive() -> None:
            nonlocal sent
            async for message in ws:
                received.append(message)
                if message == "fill":
                    for _ in range(100):
                        await ws.send(b"x" * 100_000)
                        sent += 1
                await ws.send(message)

        task = asyncio.create_task(receive())
        await turns(3)
        await peer.send(texts("fill"))
        assert await stalled(task, lambda: sent)
        assert 0 < sent < 100
        await peer.send(texts("one", "two"))
        await asyncio.sleep(0.02)
        await peer.send(client_frame(PING, b"still there?") + texts("three"))
        await asyncio.sleep(0.02)
        assert received == ["fill"]
        frames = [await peer.recv_frame() for _ in range(105)]
        assert [f.payload for f in frames if f.opcode == TEXT] == [
            b"fill",
            b"one",
            b"two",
            b"three",
        ]
        assert [f.payload for f in frames if f.opcode == PONG] == [b"still there?"]
        assert received == ["fill", "one", "two", "three"]
        await peer.send_close()
        await peer.recv_frame()
        await within(task)


@however_it_arrives
async def test_the_end_right_behind_messages(arriving: Callable[..., Awaitable[None]]) -> None:
    """Messages in the same read as the close frame are delivered before the end is."""
    async with server_of_raw_client() as (ws, peer):
        received = []

        async def receive() -> str:
            async for message in ws:
                received.append(message)
            return "ended"

        task = asyncio.create_task(receive())
        await turns(3)
        await arriving(ws, texts("one", "two") + client_frame(CLOSE, close_payload(1000)))
        peer.send_eof()
        assert await within(task) == "ended"
        assert received == ["one", "two"]
        # It stays at its end.
        for _ in range(3):
            with pytest.raises(StopAsyncIteration):
                await within(anext(ws))
            with pytest.raises(ConnectionClosed):
                await within(ws.recv())


async def test_iterations_one_after_another(ws: ServerConnection) -> None:
    """Leaving an iteration and starting another one loses nothing."""
    arrive(ws, texts(*range(10)))
    received = []
    for _ in range(5):
        async for message in ws:
            received.append(message)
            break
        received += [message async for message in first_of(ws)]
    assert received == [str(i) for i in range(10)]
    await assert_sound(ws)


async def first_of(ws: Any) -> AsyncIterator[Any]:
    async for message in ws:
        yield message
        return


# Context


async def test_every_task_keeps_its_context(ws: ServerConnection) -> None:
    """The context is the waiting task's, not that of whoever brings the message."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def receive(name: str) -> str:
        variable.set(name)
        await anext(ws)
        return variable.get()

    for arriving in WAYS_TO_ARRIVE.values():
        for name in ("one", "two"):
            variable.set("outside")
            context = contextvars.copy_context()
            task = asyncio.create_task(receive(name), context=context)
            await turns(3)
            await arriving(ws, texts("x"))
            assert await within(task) == name
            assert context[variable] == name
            assert variable.get() == "outside"


async def test_arrival_in_the_context_of_the_waiting_task(ws: ServerConnection) -> None:
    """A callback in the very context that the task would be resumed in: no context nests."""
    context = contextvars.copy_context()

    async def receive() -> Any:
        return await anext(ws)

    for _ in range(3):
        task = asyncio.create_task(receive(), context=context)
        await turns(3)
        asyncio.get_running_loop().call_soon(arrive, ws, texts("one"), context=context)
        assert await within(task) == "one"
    await assert_sound(ws)
