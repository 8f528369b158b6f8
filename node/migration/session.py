"""Both ends of a migration: words on the control socket, volumes by rsync on the other (spec/migration.md 4).

Owns the order and what each side hears when the other gives up; refuses to know containers."""

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import trio

from lxdnode.drivers.config.kinds import show_size
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.storage import rsync
from lxdnode.node.errors import NodeError, alone
from lxdnode.node.migration.messages import (
    RSYNC,
    STATELESS,
    Header,
    Verdict,
    decode_header,
    decode_verdict,
    encode_header,
    encode_verdict,
)
from lxdnode.node.sockets import END, Socket

CONTROL, FILES = "control", "fs"
NAMES = (CONTROL, FILES)
_OFFERED = frozenset({"xattrs", "delete"})
"""Compression is left to networks that need it: it costs more than a fast one saves."""
_BETWEEN_REPORTS = 1.0
_ANSWER_LIMIT = 30.0
"""Seconds in which a sink that is connected must say what it takes: the source is held for it."""
_BROKEN_OFF = "The other server broke off the transfer"
_GIVEN_UP = "The other server gave the migration up"
Report = Callable[[str], None]
"""Takes the text of `fs_progress`."""


class Named(Protocol):
    """The sockets of this side by name: those that clients connect, or those that we dialled."""

    async def get(self, name: str) -> Socket: ...


@dataclass(frozen=True)
class Item:
    """A volume to send: its name for the progress, and where it is."""

    name: str
    path: Path


class _Files:
    """The socket of the files as rsync wants it; counts what goes over it."""

    def __init__(self, socket: Socket, name: str, report: Report) -> None:
        self._socket = socket
        self._name = name
        self._report = report
        self._count = 0
        self._since = self._reported = time.monotonic()

    async def receive(self) -> bytes:
        try:
            message = await self._socket.receive()
        except trio.EndOfChannel:
            raise NodeError(_BROKEN_OFF) from None
        if message == END:
            self._tell()
            return b""
        data = message.encode() if isinstance(message, str) else message
        self._counted(len(data))
        return data

    async def send(self, data: bytes) -> None:
        try:
            await self._socket.send(data)
        except trio.BrokenResourceError:
            raise NodeError(_BROKEN_OFF) from None
        self._counted(len(data))

    async def finish(self) -> None:
        try:
            await self._socket.send(END)
        except trio.BrokenResourceError:
            raise NodeError(_BROKEN_OFF) from None

    def _counted(self, size: int) -> None:
        self._count += size
        if time.monotonic() - self._reported >= _BETWEEN_REPORTS:
            self._tell()

    def _tell(self) -> None:
        """Now and then, and at the end: what is small is through before the first report."""
        self._reported = time.monotonic()
        speed = int(self._count / max(self._reported - self._since, 0.001))
        self._report(f"{self._name}: {show_size(self._count)} ({show_size(speed)}/s)")


async def connected(sockets: Named) -> None:
    """Returns when both sockets are connected; there is no limit on the time (spec/migration.md 1)."""
    for name in NAMES:
        await sockets.get(name)


async def send(sockets: Named, header: Header, items: Sequence[Item], report: Report) -> None:
    """The source's side: returns when the sink has everything. The volumes go in the order of LXD; the last one twice
    when the header says that the container runs.

    NodeError with the sink's words, or that it broke off; DriverError with those of this host, which the sink hears."""
    control, files = await sockets.get(CONTROL), await sockets.get(FILES)
    if header.criu is not None:
        items = [*items, items[-1]]
    await control.send(encode_header(replace(header, features=_OFFERED)))
    # The sink decides: LXD 5.0.2 takes what it knows, offered or not.
    features = (await _answer(control)).features & rsync.FEATURES
    with alone():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_all, control, files, items, features, report)
            verdict = decode_verdict(await _binary(control))
            nursery.cancel_scope.cancel()
    if not verdict.success:
        raise NodeError(verdict.message or _GIVEN_UP)


async def _answer(control: Socket) -> Header:
    try:
        with trio.fail_after(_ANSWER_LIMIT):
            return decode_header(await _binary(control))
    except trio.TooSlowError:
        raise NodeError(f"The other server did not say within {_ANSWER_LIMIT:g} s what it takes") from None


async def _send_all(
    control: Socket, files: Socket, items: Sequence[Item], features: Collection[str], report: Report
) -> None:
    try:
        for item in items:
            await rsync.send(item.path, _Files(files, item.name, report), features=features)
    except DriverError as error:
        with suppress(trio.BrokenResourceError):
            await control.send(encode_verdict(Verdict(False, str(error))))
            await control.close()
        raise


class Arrival:
    """The sink's side. `meet` first, then `fill` per volume in the source's order, then `end`.

    Methods raise NodeError with the source's words, or that it broke off, and DriverError with this host's."""

    def __init__(self, sockets: Named, report: Report) -> None:
        self._sockets = sockets
        self._report = report
        self.header = Header()

    async def meet(self) -> Header:
        """Waits for the source, and returns what it sends."""
        self._control, self._files = await self._sockets.get(CONTROL), await self._sockets.get(FILES)
        raw = await _binary(self._control)
        self.header = decode_header(raw)
        self._features = self.header.features & rsync.FEATURES
        answer = Header(RSYNC, None if self.header.criu is None else STATELESS, features=self._features)
        await self._control.send(encode_header(answer))
        if self.header.criu not in (None, STATELESS):
            raise NodeError(
                "Unable to perform container live migration. CRIU isn't installed on the destination server."
            )
        return self.header

    async def fill(self, path: Path, name: str) -> None:
        """Fills a volume with the next one of the source."""
        with alone():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._heed)
                await rsync.receive(path, _Files(self._files, name, self._report), features=self._features)
                nursery.cancel_scope.cancel()

    async def _heed(self) -> None:
        """Raises what the source says while it sends: that it has failed."""
        verdict = decode_verdict(await _binary(self._control))
        raise NodeError(verdict.message or _GIVEN_UP)

    async def end(self) -> None:
        """Tells the source that everything is in place."""
        with suppress(trio.BrokenResourceError):
            await self._control.send(encode_verdict(Verdict(True)))
            await self._control.close()


async def _binary(socket: Socket) -> bytes:
    try:
        message = await socket.receive()
    except trio.EndOfChannel:
        raise NodeError("Got error reading source: the other server closed the connection") from None
    if isinstance(message, str):
        raise NodeError("Only binary messages allowed")
    return message
