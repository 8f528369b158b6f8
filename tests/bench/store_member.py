"""A process that is one raft member, linked over TLS as the daemon is, with its clients inside, at the log's interface.

`python -m tests.bench.store_member NUMBER FOLDER PORT...`, a port for each member; FOLDER holds server.crt and .key.
Reads lines: `measure CLIENTS SECONDS BYTES` is answered by a line of JSON, `leads` by true or false."""

import json
import os
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import randbytes

import trio

from lxdnode.api.tls import make_context
from lxdnode.node import keypair, memory
from lxdnode.node.errors import Unavailable
from lxdnode.node.peers import RAFT_PROTOCOL, dial
from lxdnode.node.tls import TLSStream
from lxdnode.raft.errors import HelloRefused
from lxdnode.raft.log import Log
from lxdnode.raft.transaction import Put, Transaction

KEYS = 100  # of each client, written in turn


class Member:
    """One member; `run` takes part until its standard input ends."""

    def __init__(self, number: int, folder: Path, ports: list[int]) -> None:
        self._number = number
        self._folder = folder
        self._ports = ports
        pair = keypair.load(folder, "server")
        assert pair is not None
        self._pin = pair.fingerprint
        self._context = make_context(pair)
        self._log = Log.open(folder / f"member-{number}", self._dial)

    async def run(self) -> None:
        memory.return_freed()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._log.run)
            port = self._ports[self._number - 1]
            await nursery.start(trio.serve_tcp, self._accept, port)
            nursery.start_soon(memory.collect)
            await self._obey()
            nursery.cancel_scope.cancel()

    async def _dial(self, member: int) -> trio.abc.Stream:
        address = f"127.0.0.1:{self._ports[member - 1]}"
        try:
            stream = await dial(self._folder, address, self._pin, RAFT_PROTOCOL)
        except Unavailable as error:
            raise ConnectionError(str(error)) from error
        await stream.send_all(bytes([self._number]))
        return stream

    async def _accept(self, accepted: trio.SocketStream) -> None:
        async def compute(function: Callable[[], None]) -> None:
            await trio.to_thread.run_sync(function)

        stream = TLSStream(accepted, self._context)
        with suppress(OSError, trio.BrokenResourceError, HelloRefused, IndexError):
            await stream.do_handshake(compute)
            await self._log.serve(stream, (await stream.receive_some(1))[0])

    async def _obey(self) -> None:
        async with trio.lowlevel.FdStream(os.dup(0)) as given:
            data = b""
            async for received in given:
                *lines, data = (data + received).split(b"\n")
                for line in lines:
                    print(json.dumps(await self._answer(line.decode().split())), flush=True)

    async def _answer(self, words: list[str]) -> object:
        if words == ["leads"]:
            return self._log.is_leader
        _measure, clients, seconds, size = words
        took: list[float] = []
        async with trio.open_nursery() as nursery:
            for client in range(int(clients)):
                nursery.start_soon(self._write, client, trio.current_time() + float(seconds), int(size), took)
        return took

    async def _write(self, client: int, until: float, size: int, took: list[float]) -> None:
        """One write after the other; the time of each, in seconds."""
        number = 0
        while (began := trio.current_time()) < until:
            put = Put("bench", "", f"{client}-{number % KEYS}", randbytes(size))
            born, own = self._log.state.index, self._number
            change = Transaction(
                id=str(uuid.uuid4()), born=born, level=1, author="", at=0.0, member=own, request="", writes=(put,)
            )
            await self._log.commit(change)
            took.append(trio.current_time() - began)
            number += 1


async def main(number: int, folder: Path, ports: list[int]) -> None:
    await Member(number, folder, ports).run()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), Path(sys.argv[2]), [int(port) for port in sys.argv[3:]])
