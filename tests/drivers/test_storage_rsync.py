"""Volumes between two rsyncs over an in-memory stream, as over a migration's websocket."""

import os
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.storage import rsync


class Side:
    """One end of a stream both ways."""

    def __init__(self, send: trio.MemorySendChannel[bytes], receive: trio.MemoryReceiveChannel[bytes]) -> None:
        self._send = send
        self._receive = receive

    async def receive(self) -> bytes:
        return await self._receive.receive()

    async def send(self, data: bytes) -> None:
        await self._send.send(data)

    async def finish(self) -> None:
        await self._send.send(b"")


def sides() -> tuple[Side, Side]:
    """Two ends that are joined."""
    there, back = trio.open_memory_channel[bytes](0), trio.open_memory_channel[bytes](0)
    return Side(there[0], back[1]), Side(back[0], there[1])


async def transfer(source: Path, target: Path, one: Side, other: Side) -> None:
    """Sends a directory to another one."""
    features = {"xattrs", "delete"}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(rsync.send, source, one, features=features))
        nursery.start_soon(partial(rsync.receive, target, other, features=features))


async def test_a_tree_arrives_as_it_was_and_the_stream_serves_again(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep").mkdir(parents=True)
    target.mkdir()
    (source / "large").write_bytes(os.urandom(3_000_000))
    (source / "deep/link").symlink_to("/nowhere")
    os.mknod(source / "null", 0o20666, os.makedev(1, 3))
    os.chown(source / "large", 100_123, 100_124)
    os.setxattr(source / "large", "user.note", b"kept")
    one, other = sides()
    await transfer(source, target, one, other)
    (source / "more").write_text("later")
    await transfer(source, target, one, other)
    assert (target / "large").read_bytes() == (source / "large").read_bytes()
    assert (target / "large").stat()[4:6] == (100_123, 100_124)
    assert os.getxattr(target / "large", "user.note") == b"kept"
    assert (target / "deep/link").readlink() == Path("/nowhere")
    assert (target / "null").stat().st_rdev == os.makedev(1, 3)
    assert (target / "more").read_text() == "later"


async def test_a_receiver_that_cannot_write_says_why_on_its_side(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    (tmp_path / "target").write_text("no directory")
    one, other = sides()
    failures = []

    async def side(work: Awaitable[None]) -> None:
        try:
            await work
        except DriverError as error:
            failures.append(str(error))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(side, rsync.send(source, one))
            nursery.start_soon(side, rsync.receive(tmp_path / "target", other))
    assert any("receiving" in text and "Not a directory" in text for text in failures)
    assert len(failures) == 2


@pytest.mark.parametrize("work", [rsync.send, rsync.receive])
async def test_rsync_ends_with_its_transfer_and_leaves_no_file_open(tmp_path: Path, work: Any) -> None:
    own, (one, _other) = psutil.Process(), sides()
    before = own.num_fds()
    with pytest.raises(trio.TooSlowError), trio.fail_after(0.3):
        await work(tmp_path, one)  # Nobody takes what it says.
    assert not [child for child in own.children() if child.name() == "rsync"]
    assert own.num_fds() == before
