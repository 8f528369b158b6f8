"""A process that is one raft member over unix sockets: `python -m tests.harness.raft_member NUMBER FOLDER`.

Clients send a line `NAME VALUE` to FOLDER/client-NUMBER and get `committed INDEX`, another outcome or a failure;
`state` gives the digest and all names. Members greet each other with one byte: their number."""

import contextlib
import sys
import uuid
from pathlib import Path

import trio

from lxdnode.raft.errors import HelloRefused, LogError
from lxdnode.raft.log import Log
from lxdnode.raft.transaction import Committed, Put, Transaction


async def _listen(path: Path) -> trio.SocketListener:
    await trio.Path(path).unlink(missing_ok=True)
    socket = trio.socket.socket(trio.socket.AF_UNIX)
    await socket.bind(str(path))
    socket.listen(64)
    return trio.SocketListener(socket)


async def _commit(log: Log, name: str, value: str) -> str:
    put = Put("names", "", name, value.encode())
    identity, born, own = str(uuid.uuid4()), log.state.index, log.identity.member
    change = Transaction(id=identity, born=born, level=1, author="", at=0.0, member=own, request="", writes=(put,))
    try:
        outcome = await log.commit(change)
    except LogError as failure:
        return f"failed {failure}"
    return f"committed {outcome.index}" if isinstance(outcome, Committed) else str(outcome)


async def _show(log: Log) -> str:
    try:
        await log.barrier(5.0)
    except LogError as failure:
        return f"failed {failure}"
    return " ".join(["state", log.state.digest(), *log.state.group("names", "")])


async def _serve_client(log: Log, stream: trio.SocketStream) -> None:
    data = b""
    with contextlib.suppress(trio.BrokenResourceError):
        async for received in stream:
            data += received
            while b"\n" in data:
                line, data = data.split(b"\n", 1)
                words = line.decode().split()
                answer = await (_show(log) if words == ["state"] else _commit(log, *words))
                await stream.send_all(answer.encode() + b"\n")


async def main(number: int, folder: Path) -> None:
    async def dial(member: int) -> trio.abc.Stream:
        stream = await trio.open_unix_socket(str(folder / f"raft-{member}"))
        await stream.send_all(bytes([number]))
        return stream

    log = Log.open(folder / f"member-{number}", dial)

    async def accept(stream: trio.SocketStream) -> None:
        with contextlib.suppress(OSError, trio.BrokenResourceError, HelloRefused, IndexError):
            await log.serve(stream, (await stream.receive_some(1))[0])

    async def serve(stream: trio.SocketStream) -> None:
        await _serve_client(log, stream)

    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        await nursery.start(trio.serve_listeners, accept, [await _listen(folder / f"raft-{number}")])
        await nursery.start(trio.serve_listeners, serve, [await _listen(folder / f"client-{number}")])


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), Path(sys.argv[2]))
