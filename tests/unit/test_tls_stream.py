"""TLS between members, over a real connection: what goes out at once and what has to wait arrives whole, in order."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from lxdnode.api.tls import make_context
from lxdnode.node import keypair
from lxdnode.node.errors import Unavailable
from lxdnode.node.peers import RAFT_PROTOCOL, dial
from lxdnode.node.tls import TLSStream

MESSAGE = bytes(range(256)) * 64


async def at_once(step: object) -> None:
    assert callable(step)
    step()


@asynccontextmanager
async def connected(directory: Path) -> AsyncIterator[tuple[TLSStream, trio.abc.Stream]]:
    """The accepted and the dialled end of one connection."""
    pair = keypair.load_or_make(directory, "server")
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
    accepted: list[TLSStream] = []

    async def accept() -> None:
        accepted.append(TLSStream(await listener.accept(), make_context(pair)))
        await accepted[0].do_handshake(at_once)

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        dialled = await dial(directory, address, {pair.fingerprint}, RAFT_PROTOCOL)
    async with accepted[0], dialled:
        yield accepted[0], dialled


async def receive(stream: trio.abc.Stream, size: int) -> bytes:
    data = b""
    with trio.fail_after(10):
        while len(data) < size:
            data += await stream.receive_some()
    return data


async def test_a_message_goes_out_at_once_in_both_directions(tmp_path: Path) -> None:
    async with connected(tmp_path) as ends:
        assert ends[0].protocol == RAFT_PROTOCOL.encode()
        for sender, receiver in (ends, ends[::-1]):
            assert isinstance(sender, TLSStream)
            assert sender.send_nowait(MESSAGE)
            assert await receive(receiver, len(MESSAGE)) == MESSAGE


async def test_what_the_socket_does_not_take_follows_in_order(tmp_path: Path) -> None:
    async with connected(tmp_path) as (accepted, dialled):
        sent = MESSAGE
        while accepted.send_nowait(MESSAGE):
            sent += MESSAGE
        assert not accepted.send_nowait(MESSAGE)  # behind what is kept
        sent += MESSAGE
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accepted.send_all, b"")
            assert await receive(dialled, len(sent)) == sent
        assert accepted.send_nowait(MESSAGE)
        assert await receive(dialled, len(MESSAGE)) == MESSAGE


async def test_a_large_message_is_out_when_it_says_so(tmp_path: Path) -> None:
    async with connected(tmp_path) as (accepted, dialled):
        warm = MESSAGE * 200  # the kernel's buffers grow by it
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accepted.send_all, warm)
            assert await receive(dialled, len(warm)) == warm
        message = MESSAGE * 24
        out = accepted.send_nowait(message)
        async with trio.open_nursery() as nursery:
            if not out:
                nursery.start_soon(accepted.send_all, b"")
            assert await receive(dialled, len(message)) == message


async def test_another_certificate_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    pair = keypair.load_or_make(tmp_path, "server")

    async def serve(accepted: trio.SocketStream) -> None:
        await TLSStream(accepted, make_context(pair)).do_handshake(at_once)

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        with pytest.raises(Unavailable, match="expected 00"):
            await dial(tmp_path, f"127.0.0.1:{port}", {"00"}, RAFT_PROTOCOL)
        nursery.cancel_scope.cancel()
