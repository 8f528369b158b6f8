"""Three real processes under load: each is killed in turn, then all at once; nothing acknowledged is lost."""

import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from lxdnode.raft import driver as drivers
from lxdnode.raft.disk import Directory
from lxdnode.raft.entry import Members
from lxdnode.raft.journal import Identity
from lxdnode.raft.state import State
from lxdnode.raft.transaction import encode
from tests.harness.changes import member_put, transaction

ROOT = Path(__file__).parents[2]
MEMBERS = (1, 2, 3)


class Cluster:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.acknowledged: set[str] = set()
        self.answered_at = 0.0

    def found(self) -> None:
        initial = encode(transaction(State(), 1, writes=tuple(member_put(n, voter=True) for n in MEMBERS)))
        for number in MEMBERS:
            disk = Directory(self.folder / f"member-{number}")
            drivers.create(disk, Identity("kill", 1, number), Members(MEMBERS), initial)
            disk.close()
            self.start(number)

    def start(self, number: int) -> None:
        command = [sys.executable, "-m", "tests.harness.raft_member", str(number), str(self.folder)]
        self.processes[number] = subprocess.Popen(command, cwd=ROOT)

    def kill(self, number: int) -> None:
        process = self.processes.pop(number)
        process.send_signal(signal.SIGKILL)
        process.wait()

    async def ask(self, number: int, line: str) -> str | None:
        """One line to a member and its answer; None when it is not there or goes away."""
        with suppress(OSError, trio.BrokenResourceError):
            stream = await trio.open_unix_socket(str(self.folder / f"client-{number}"))
            async with stream:
                await stream.send_all(line.encode() + b"\n")
                data = b""
                while not data.endswith(b"\n"):
                    received = await stream.receive_some()
                    if not received:
                        return None
                    data += received
                return data.decode().strip()
        return None

    async def state(self, number: int) -> list[str]:
        """The digest and all names at a member, once it has asked the others."""
        while True:
            answer = await self.ask(number, "state")
            if answer is not None and answer.startswith("state"):
                return answer.split()[1:]
            await trio.sleep(0.05)

    async def same_states(self, seconds: float) -> list[list[str]]:
        """Within `seconds` all members show the same digest; the last writes may be under way still."""
        with trio.fail_after(seconds):
            while True:
                states = [await self.state(number) for number in MEMBERS]
                if len({state[0] for state in states}) == 1:
                    return states

    async def write(self, writer: int) -> None:
        """Write name after name through random members, for ever."""
        count = 0
        while True:
            name = f"w{writer}-{count}"
            count += 1
            answer = await self.ask(random.choice(MEMBERS), f"{name} x")
            if answer is not None and answer.startswith("committed"):
                self.acknowledged.add(name)
                self.answered_at = trio.current_time()
            else:
                await trio.sleep(0.02)

    async def acknowledges(self, seconds: float) -> None:
        """Within `seconds` a write that began now or later is acknowledged."""
        asked_at = trio.current_time()
        with trio.fail_after(seconds):
            while self.answered_at <= asked_at:  # noqa: ASYNC110 - writers answer when they can
                await trio.sleep(0.01)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path)
    cluster.found()
    yield cluster
    for number in list(cluster.processes):
        cluster.kill(number)


async def test_nothing_acknowledged_is_lost(cluster: Cluster) -> None:
    async with trio.open_nursery() as nursery:
        for writer in range(8):
            nursery.start_soon(cluster.write, writer)
        await cluster.acknowledges(20)
        for number in MEMBERS:
            cluster.kill(number)
            await cluster.acknowledges(8)
            cluster.start(number)
            await trio.sleep(0.4)
        for number in MEMBERS:
            cluster.kill(number)
        for number in MEMBERS:
            cluster.start(number)
        await cluster.acknowledges(20)
        nursery.cancel_scope.cancel()
    assert len(cluster.acknowledged) > 50
    for state in await cluster.same_states(20):
        assert not cluster.acknowledged - set(state[1:]), "acknowledged writes are lost"
