"""Which log is this member's store, and the tasks that live as long as it: Raft itself, and who follows it.

Owns opening the store and putting another one in its place (a join, a leave); refuses to know why."""

import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

import trio

from lxdnode.node.cluster.description import OWN_PROGRAM
from lxdnode.node.exchange import exchange
from lxdnode.node.first import FIRST, first_transaction, new_cluster
from lxdnode.node.keypair import KeyPair
from lxdnode.raft.journal import Identity
from lxdnode.raft.log import Log

Follower = Callable[[Log], Awaitable[None]]
Dial = Callable[[int], Awaitable[trio.abc.Stream]]


class Session:
    """One log that runs in `nursery`, with followers once it is the store."""

    def __init__(self, log: Log, nursery: trio.Nursery) -> None:
        self.log = log
        self._nursery = nursery
        self._scope = trio.CancelScope()
        self._inner: trio.Nursery | None = None
        self._followed = False
        self._ended = trio.Event()

    async def start(self) -> None:
        """Returns when the log takes part."""
        await self._nursery.start(self._run)

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as self._inner:
                    await self._inner.start(self.log.run)
                    task_status.started()
        finally:
            self._ended.set()

    def follow(self, followers: Sequence[Follower]) -> None:
        """Starts what must happen as the log applies, once: a server may leave its cluster while it starts."""
        assert self._inner is not None, "start() comes first"
        if self._followed:
            return
        self._followed = True
        for follower in followers:
            self._inner.start_soon(follower, self.log)

    async def end(self) -> None:
        """Stops followers and log; its files are closed afterwards."""
        self._scope.cancel()
        await self._ended.wait()


class Sessions:
    """The sessions of a member. The store is `raft/`; `raft.new/` is one that is not yet it, or no longer.

    The two change places in one rename, so that after a crash `raft/` is always a whole store."""

    def __init__(self, directory: Path, nursery: trio.Nursery, dial: Dial) -> None:
        self._store = directory / "raft"
        self._other = directory / "raft.new"
        self._nursery = nursery
        self._dial = dial
        self.followers: tuple[Follower, ...] = ()
        self.current: Session

    async def open(self, own: KeyPair, *, first: bool) -> Log:
        """Opens the store; at the `first` start of a server makes one of a single member, when there is none.

        Damaged, or FileNotFoundError, for a store that cannot be started on."""
        shutil.rmtree(self._other, ignore_errors=True)
        create = first and not self._store.exists()
        log = self._create(self._store, own, {}) if create else Log.open(self._store, self._dial)
        self.current = await self._started(log)
        return log

    async def relearn(self, identity: Identity, others: Iterable[int], *, term: int, index: int, dial: Dial) -> Session:
        """A session that receives this member's own log anew, from the others."""
        shutil.rmtree(self._other, ignore_errors=True)
        return await self._started(Log.rejoin(self._other, identity, others, term=term, index=index, dial=dial))

    async def replace_lost(self, session: Session, kept: str) -> None:
        """Makes a session the current one in place of a store that could not be opened, which stays as `kept`."""
        exchange(self._store, self._other)
        self.current = session
        self.keep(kept)

    async def learn(self, cluster: str, epoch: int, member: int, dial: Dial) -> Session:
        """A session that receives the log of another cluster beside the current one."""
        shutil.rmtree(self._other, ignore_errors=True)
        return await self._started(Log.join(self._other, cluster=cluster, epoch=epoch, member=member, dial=dial))

    async def fresh(self, own: KeyPair, addresses: Mapping[str, str]) -> Session:
        """A session on a new store of a single member with these settings, beside the current one."""
        shutil.rmtree(self._other, ignore_errors=True)
        return await self._started(self._create(self._other, own, addresses))

    async def begin(self, make: Callable[[Path], None]) -> Session:
        """A session on a store that `make` writes (in a thread) into the directory that it is given."""
        shutil.rmtree(self._other, ignore_errors=True)
        await trio.to_thread.run_sync(make, self._other)
        return await self._started(Log.open(self._other, self._dial))

    async def adopt(self, session: Session) -> None:
        """Makes a session the current one; the store before stays in `raft.new/` until `forget`."""
        exchange(self._store, self._other)
        before, self.current = self.current, session
        await before.end()

    async def revert(self) -> Log:
        """Takes an adoption back: the store before is opened again."""
        exchange(self._store, self._other)
        await self.current.end()
        log = Log.open(self._store, self._dial)
        self.current = await self._started(log)
        return log

    def follow(self) -> None:
        """Starts the followers of the current session."""
        self.current.follow(self.followers)

    async def discard(self, session: Session) -> None:
        """Ends a session that was not adopted, and removes its log."""
        await session.end()
        self.forget()

    def keep(self, name: str) -> Path:
        """Puts the store before aside under a name, instead of forgetting it."""
        kept = self._other.with_name(name)
        shutil.rmtree(kept, ignore_errors=True)
        return self._other.rename(kept)

    def forget(self) -> None:
        """Removes the store that is not the current one."""
        shutil.rmtree(self._other, ignore_errors=True)

    def _create(self, directory: Path, own: KeyPair, addresses: Mapping[str, str]) -> Log:
        initial = first_transaction(own, addresses)
        return Log.create(directory, cluster=new_cluster(), member=FIRST, initial=initial, dial=self._dial)

    async def _started(self, log: Log) -> Session:
        log.report(OWN_PROGRAM)
        session = Session(log, self._nursery)
        await session.start()
        return session
