"""Disks and disk threads for drivers that run without files: in memory, with power cuts, at once or after a while.

Owns what a power cut leaves of files and jobs; refuses to know what is in them."""

import contextlib
import errno
import random
from collections.abc import Callable

from lxdnode.raft.framing import Damaged
from lxdnode.raft.worker import Done, Job


class PowerCut(Exception):
    """The disk stopped in the middle of a job."""


class MemoryDisk:
    """Files that remember what of them was synced; `cut_power` keeps that, and a random part of the rest."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._files: dict[str, bytearray] = {}
        self._synced: dict[str, bytes] = {}  # durable content by durable name
        self._removed: list[str] = []  # not yet durable, in order
        self.full = self.was_full = False
        self.failing = self.was_failing = False  # every sync gives EIO
        self.fuse: int | None = None  # operations until the power fails

    def _burn(self) -> None:
        if self.fuse is not None:
            if self.fuse == 0:
                raise PowerCut
            self.fuse -= 1

    def _check_sync(self) -> None:
        self._burn()
        self._fail()

    def _fail(self) -> None:
        if self.failing:
            self.was_failing = True
            raise OSError(errno.EIO, "input/output error")

    def names(self) -> list[str]:
        return list(self._files)

    def size(self, name: str) -> int:
        return len(self._files[name])

    def read(self, name: str, offset: int = 0, size: int = -1) -> bytes:
        data = bytes(self._files[name])
        return data[offset:] if size < 0 else data[offset : offset + size]

    def append(self, name: str, data: bytes) -> None:
        self._burn()
        room = self._chance.randrange(len(data)) if self.full and data else len(data)
        self._files.setdefault(name, bytearray()).extend(data[:room])
        if self.full:
            self.was_full = True
            raise OSError(errno.ENOSPC, "no space left on device")

    def truncate(self, name: str, size: int) -> None:
        del self._files[name][size:]
        self._fail()
        self._synced[name] = bytes(self._files[name])

    def sync(self, name: str) -> None:
        self._check_sync()
        self._synced[name] = bytes(self._files[name])

    def publish(self, name: str, target: str) -> None:
        self._check_sync()
        self._files[target] = self._files.pop(name)
        self._forget_removed()
        self._synced.pop(name, None)
        self._synced[target] = bytes(self._files[target])

    def remove(self, name: str) -> None:
        self._burn()
        if self._files.pop(name, None) is not None:
            self._removed.append(name)

    def close(self) -> None:
        """Nothing is held open."""

    def _forget_removed(self) -> None:
        for name in self._removed:
            self._synced.pop(name, None)
        self._removed = []

    def flip(self, name: str, size: int | None = None) -> None:
        """One bit of what is durable in a file is wrong, of its first `size` bytes."""
        data = self._files[name]
        data[self._chance.randrange(size or len(data))] ^= 1 << self._chance.randrange(8)
        self._synced[name] = bytes(data)

    def cut_power(self) -> None:
        """Unsynced tails are torn anywhere; removals are lost from some point on; unsynced files may be there."""
        gone = self._removed[: self._chance.randint(0, len(self._removed))]
        files: dict[str, bytearray] = {}
        for name in sorted(self._files.keys() | self._synced.keys()):
            if name in gone and name not in self._files:
                continue
            synced = self._synced.get(name)
            tail = bytes(self._files.get(name, b""))[len(synced or b"") :]
            kept = tail[: self._chance.randint(0, len(tail))]
            if synced is not None or kept:
                files[name] = bytearray((synced or b"") + kept)
        self._files = files
        self._synced = {name: bytes(data) for name, data in files.items()}
        self._removed, self.fuse = [], None


class SimulatedWorker:
    """Does jobs in order, each after a random while; a power cut stops it in the middle of one."""

    def __init__(
        self,
        after: Callable[[float, Callable[[], None]], None],
        delay: Callable[[], float],
        finished: Callable[[], None],
    ) -> None:
        self._after = after
        self._delay = delay
        self._tell = finished
        self._jobs: list[tuple[Job, Done]] = []
        self._finished: list[tuple[Done, BaseException | None]] = []
        self._dead = False

    def submit(self, job: Job, done: Done) -> None:
        self._jobs.append((job, done))
        if len(self._jobs) == 1:
            self._after(self._delay(), self._work)

    def _work(self) -> None:
        if self._dead:
            return
        job, done = self._jobs.pop(0)
        self._finished.append((done, _failure_of(job)))
        self._tell()
        if self._jobs:
            self._after(self._delay(), self._work)

    def collect(self) -> None:
        finished, self._finished = self._finished, []
        for done, failure in finished:
            done(failure)

    def die(self, disk: MemoryDisk, chance: random.Random) -> None:
        self._dead = True
        if self._jobs and chance.random() < 0.7:
            disk.fuse = chance.randint(0, 3)
            with contextlib.suppress(PowerCut, Damaged, OSError):
                self._jobs[0][0]()


class HeldWorker:
    """Does jobs at once, or when the test lets it."""

    def __init__(self) -> None:
        self.held = False
        self._jobs: list[tuple[Job, Done]] = []

    def submit(self, job: Job, done: Done) -> None:
        self._jobs.append((job, done))

    def collect(self) -> None:
        while self._jobs and not self.held:
            job, done = self._jobs.pop(0)
            done(_failure_of(job))


def _failure_of(job: Job) -> BaseException | None:
    try:
        job()
    except Exception as error:
        return error
    return None
