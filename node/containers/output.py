"""What a command writes, read until its end: the command's, not that of those it left behind.

Owns the rule that a background process which keeps a pipe open does not hold the client (spec/containers.md 5)."""

import os

import trio


class Output:
    """The reading end of a pipe or terminal. After `finish` it gives what is there already, and then the end."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._finished = False
        self._waiting: trio.CancelScope | None = None

    def finish(self) -> None:
        """The command has ended: nothing more is waited for."""
        self._finished = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def receive_some(self, most: int = 65536) -> bytes:
        """The next bytes; b"" at the end. A terminal whose last user has gone ends with EIO."""
        while True:
            try:
                data = os.read(self._descriptor, most)
            except BlockingIOError:
                if self._finished:
                    return b""
                with trio.CancelScope() as self._waiting:
                    await trio.lowlevel.wait_readable(self._descriptor)
                self._waiting = None
            except OSError:
                return b""
            else:
                await trio.lowlevel.checkpoint()
                return data

    def close(self) -> None:
        """Lets go of it."""
        os.close(self._descriptor)
