"""Snapshots on their way to a member that is too far behind for the log: one chunk at a time, each answered.

Owns sending and receiving; the received file is verified as a whole before the driver installs it."""

from collections.abc import Callable
from dataclasses import dataclass

from lxdnode.raft.core import Core, Message
from lxdnode.raft.disk import Disk
from lxdnode.raft.framing import Damaged, NewerFormat
from lxdnode.raft.journal import Identity
from lxdnode.raft.snapshot import RECEIVED, SnapshotHead, decode, name_of
from lxdnode.raft.state import State
from lxdnode.raft.worker import Worker

CHUNK = 256 * 1024
SILENCE = 3.0  # a receiver that answers nothing for so long is sent the file again; while it verifies it ignores that


@dataclass(slots=True, eq=False)
class _Outgoing:
    index: int
    size: int
    offset: int
    active_at: float


class Sender:
    """At the leader. `step` starts what is due; `on_answer` sends the next chunk; a broken link ends it."""

    def __init__(self, core: Core, disk: Disk, worker: Worker, send: Callable[[int, Message], None]) -> None:
        self._core = core
        self._disk = disk
        self._worker = worker
        self._send = send
        self._outgoing: dict[int, _Outgoing] = {}

    @property
    def in_use(self) -> set[str]:
        """Files that must not be removed now."""
        return {name_of(transfer.index) for transfer in self._outgoing.values()}

    def step(self, now: float, index: int, connected: set[int]) -> None:
        """Send the snapshot at `index` to everybody who needs one."""
        if not self._core.is_leader:
            self._outgoing.clear()
            return
        for member, transfer in list(self._outgoing.items()):
            if not self._lacks(member, transfer.index) or now - transfer.active_at > SILENCE:
                del self._outgoing[member]
        for member in self._core.behind & connected - self._outgoing.keys():
            if self._lacks(member, index):
                self._outgoing[member] = _Outgoing(index, self._disk.size(name_of(index)), 0, now)
                self._send_chunk(member)

    def _lacks(self, member: int, index: int) -> bool:
        """One that took its snapshot may still be behind: the log was cut at a newer one meanwhile."""
        return member in self._core.behind and self._core.next_of(member) <= index

    def forget(self, member: int) -> None:
        self._outgoing.pop(member, None)

    def on_answer(self, now: float, member: int, message: Message) -> None:
        transfer = self._outgoing.get(member)
        if transfer is None or transfer.index != message["index"]:
            return
        transfer.active_at = now
        if transfer.offset != message["offset"] and message["offset"] < transfer.size:
            transfer.offset = message["offset"]
            self._send_chunk(member)

    def _send_chunk(self, member: int) -> None:
        transfer = self._outgoing[member]
        name, offset = name_of(transfer.index), transfer.offset
        chunk: list[bytes] = []

        def done(failure: BaseException | None) -> None:
            if failure is not None:
                raise failure
            if self._outgoing.get(member) is transfer and self._core.is_leader:
                place = {"index": transfer.index, "offset": offset, "size": transfer.size}
                self._send(member, {"type": "snapshot", "term": self._core.term, **place, "data": chunk[0]})

        self._worker.submit(lambda: chunk.append(self._disk.read(name, offset, CHUNK)), done)


class Receiver:
    """At the follower. A whole and good file is published under its name, then `install` gets its state."""

    def __init__(
        self,
        identity: Identity,
        disk: Disk,
        worker: Worker,
        send: Callable[[int, Message], None],
        install: Callable[[int, SnapshotHead, State], None],
        outdated: Callable[[int], None],
    ) -> None:
        """`outdated` gets the level of a snapshot that this program is too old for; no other is taken after it."""
        self._identity = identity
        self._disk = disk
        self._worker = worker
        self._send = send
        self._install = install
        self._outdated = outdated
        self._index = -1
        self._offset = 0
        self._verifying = False
        self.failure: BaseException | None = None

    def on_chunk(self, member: int, message: Message) -> None:
        index, offset, data = message["index"], message["offset"], message["data"]
        if self._verifying or isinstance(self.failure, NewerFormat):
            return
        if offset == 0:
            self._index, self._offset = index, 0
        if (index, offset) != (self._index, self._offset):
            return
        self._offset += len(data)
        complete = self._verifying = self._offset == message["size"]

        def write() -> None:
            if offset == 0:
                self._disk.remove(RECEIVED)
            self._disk.append(RECEIVED, data)

        def done(failure: BaseException | None) -> None:
            self.failure = failure
            if failure is not None:
                self._index, self._verifying = -1, False
            elif complete:
                self._verify(member, index)
            else:
                self._send(member, {"type": "snapshot_ok", "index": index, "offset": offset + len(data)})

        self._worker.submit(write, done)

    def _verify(self, member: int, index: int) -> None:
        found: list[tuple[SnapshotHead, State]] = []

        def read() -> None:
            head, state = decode(self._disk.read(RECEIVED), RECEIVED)
            if (head.identity.cluster, head.identity.epoch) != (self._identity.cluster, self._identity.epoch):
                raise Damaged(f"a snapshot of cluster {head.identity.cluster} came to {self._identity.cluster}")
            self._disk.publish(RECEIVED, name_of(head.index))
            found.append((head, state))

        def done(failure: BaseException | None) -> None:
            self._index, self._verifying, self.failure = -1, False, failure
            if found:
                self._install(member, *found[0])
            elif isinstance(failure, NewerFormat):
                self._outdated(failure.level)
            elif isinstance(failure, Damaged):
                self._send(member, {"type": "snapshot_damaged", "index": index})

        self._worker.submit(read, done)
