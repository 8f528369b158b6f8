"""A thread that does the blocking work of a disk, woken by a queue and answering by an eventfd.

trio's own thread pool costs as much as the sync itself (stack.md A.2: 0.25 ms against 0.01 to 0.09)."""

import errno
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

Job = Callable[[], None]
Done = Callable[[BaseException | None], None]


class Worker(Protocol):
    """Jobs are done in order; `collect` calls what waits for the finished ones, in the caller's thread."""

    def submit(self, job: Job, done: Done) -> None: ...
    def collect(self) -> None: ...


class ThreadWorker:
    """`descriptor` becomes readable when there is something to collect."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._jobs: queue.SimpleQueue[tuple[Job, Done] | None] = queue.SimpleQueue()
        self._finished: deque[tuple[Done, BaseException | None]] = deque()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job, done: Done) -> None:
        if not self._thread.is_alive():
            raise OSError(errno.ESHUTDOWN, "the log is closed")
        self._jobs.put((job, done))

    def collect(self) -> None:
        while self._finished:
            done, failure = self._finished.popleft()
            done(failure)

    def close(self) -> None:
        """Finish what was submitted and end the thread."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()
            os.close(self.descriptor)

    def _run(self) -> None:
        while (work := self._jobs.get()) is not None:
            job, done = work
            failure: BaseException | None = None
            try:
                job()
            except Exception as error:  # handed to the loop, which stops the daemon on it
                failure = error
            self._finished.append((done, failure))
            os.eventfd_write(self.descriptor, 1)
