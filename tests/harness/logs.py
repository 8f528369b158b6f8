"""Logs with real files and threads, whose members are in this process and speak over streams in memory.

Owns who is cut off from whom; refuses to look into a driver beyond its links."""

import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec
import trio
import trio.testing

from lxdnode.raft import driver as drivers
from lxdnode.raft.disk import Directory
from lxdnode.raft.entry import Members
from lxdnode.raft.errors import HelloRefused
from lxdnode.raft.journal import Identity
from lxdnode.raft.log import Log
from lxdnode.raft.transaction import Put, Transaction, encode
from tests.harness.changes import member_put

CLUSTER = "test"


def change(log: Log | None, *writes: Put, **fields: object) -> Transaction:
    born = log.state.index if log else 0
    identity = str(uuid.uuid4())
    made = Transaction(id=identity, born=born, level=1, author="", at=0.0, member=1, request="", writes=writes)
    return msgspec.structs.replace(made, **fields)


def put(name: str, value: bytes = b"value") -> Put:
    return Put("t", "", name, value)


async def within(seconds: float, holds: Callable[[], bool]) -> None:
    with trio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110 - a condition that nothing signals
            await trio.sleep(0.01)


class Cluster:
    """Members in one process; `cut` parts one from the others until `mend`."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.folder = folder
        self.nursery = nursery
        self.logs: dict[int, Log] = {}
        self.scopes: dict[int, trio.CancelScope] = {}
        self.away: set[int] = set()

    def dial(self, own: int) -> Callable[[int], object]:
        async def dial(member: int) -> trio.abc.Stream:
            if member not in self.scopes or {own, member} & self.away:
                raise OSError("no route")
            ours, theirs = trio.testing.memory_stream_pair()
            self.nursery.start_soon(self._accept, member, own, theirs)
            return ours

        return dial

    async def _accept(self, member: int, dialler: int, stream: trio.abc.Stream) -> None:
        try:
            await self.logs[member].serve(stream, dialler)
        except (OSError, trio.BrokenResourceError, HelloRefused):
            await trio.aclose_forcefully(stream)

    async def found(self, count: int, spares: int = 0) -> None:
        members = Members(tuple(range(1, count + 1)), tuple(range(count + 1, count + spares + 1)))
        puts = [member_put(number, voter=number in members.voters) for number in members.all]
        initial = encode(change(None, *puts))
        for number in members.voters + members.learners:
            disk = Directory(self.folder / str(number))
            drivers.create(disk, Identity(CLUSTER, 1, number), members, initial)
            disk.close()
            await self.start(number)
        await within(5, lambda: self.leader is not None)

    async def start(self, number: int) -> Log:
        return await self.add(Log.open(self.folder / str(number), self.dial(number)))  # type: ignore[arg-type]

    async def add(self, log: Log) -> Log:
        number = log.identity.member
        self.logs[number] = log

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with trio.CancelScope() as self.scopes[number]:
                await log.run(task_status)

        await self.nursery.start(run)
        return log

    def stop(self, number: int) -> None:
        self.scopes.pop(number).cancel()

    def cut(self, number: int) -> None:
        self.away.add(number)
        for log in self.logs.values():
            for member, link in list(log._transport._links.items()):
                if number in (log.identity.member, member):
                    link.scope.cancel()

    @property
    def leader(self) -> Log | None:
        return next((self.logs[number] for number in self.scopes if self.logs[number].is_leader), None)

    @property
    def follower(self) -> Log:
        return next(self.logs[number] for number in self.scopes if not self.logs[number].is_leader)
