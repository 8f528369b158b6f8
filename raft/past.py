"""The history as the rest of the program asks for it: read beside the work, made whole from other members, pruned.

Owns the trio side of the archive; refuses to fetch anything, and to know what the documents mean."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import trio

from lxdnode.raft import archive
from lxdnode.raft.archive import Archive, Chunk
from lxdnode.raft.disk import Disk
from lxdnode.raft.worker import Worker

T = TypeVar("T")
FLUSH_LIMIT = 2.0


class Past:
    """The history of one log. `wake` makes the driver step."""

    def __init__(self, disk: Disk, kept: Archive, worker: Worker, wake: Callable[[], None]) -> None:
        self._disk = disk
        self._archive = kept
        self._worker = worker
        self._wake = wake

    @property
    def unread(self) -> OSError | None:
        """Why the newest file could not be read when the log was opened; None: it could."""
        return self._archive.files.unread

    async def read(self, job: Callable[[Disk], T]) -> T:
        """What `job` makes of the files (`archive.forwards` and the like), in a thread. All that was applied before the
        call is in them, unless the disk does not take it. OSError when the log is closed."""
        await self._flush()
        return await trio.to_thread.run_sync(job, self._disk)

    async def page(self, after: int) -> list[Chunk]:
        """The next part of what is known behind an index; empty at the end."""
        return await self.read(lambda disk: next(archive.forwards(disk, after), []))

    async def gaps(self) -> list[tuple[int, int]]:
        """What is not known here: behind the first index of each pair, up to the second."""
        return await self.read(lambda disk: archive.gaps(disk, self._archive.written))

    async def insert(self, chunks: Iterable[Chunk]) -> None:
        """Fill a gap with chunks that follow each other, from another member. OSError when the disk does not take
        them."""
        kept = list(chunks)
        await self._do(lambda: self._archive.files.insert(kept))

    async def prune(self, before: float) -> None:
        """Forget what is older than a time (seconds since the epoch): whole segments."""
        await self._do(lambda: self._archive.files.prune(before))

    async def _flush(self) -> None:
        """Wait until the files have what was applied, or the disk does not take it."""
        wanted = self._archive.last
        with trio.move_on_after(FLUSH_LIMIT):
            while self._archive.written < wanted:
                self._archive.want()
                self._wake()
                await self._do(lambda: None)
                if self._archive.failure is not None:
                    return

    async def _do(self, job: Callable[[], None]) -> None:
        """Have the disk's thread do something, behind what it was given before."""
        ended = trio.Event()
        failures: list[BaseException | None] = []

        def done(failure: BaseException | None) -> None:
            failures.append(failure)
            ended.set()

        self._worker.submit(job, done)
        await ended.wait()
        if failures[0] is not None:
            raise failures[0]
