"""One suite for the contract of storage drivers, run against every driver that this host can serve."""

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.storage.base import Driver, ImageContent
from lxdnode.drivers.storage.registry import open_pool
from lxdnode.drivers.storage.volume import Kind, Volume

C1 = Volume(Kind.CONTAINER, "c1")
C2 = Volume(Kind.CONTAINER, "c2")
SNAPSHOT = Volume(Kind.SNAPSHOT, "c1/before")
CUSTOM = Volume(Kind.CUSTOM, "data")


@pytest.fixture(params=["dir", "dir elsewhere"])
async def pool(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Driver]:
    if os.getuid() != 0:
        pytest.skip("pools are made by root")
    driver, *elsewhere = request.param.split()
    config = {"source": str(tmp_path / "elsewhere")} if elsewhere else {}
    made = open_pool(driver, tmp_path / "state", "p1", config)
    await made.create()
    yield made
    await made.delete()


async def a_small_system(root: Path) -> None:
    """Puts what copies tend to lose into a tree: owners, modes, links, holes, attributes, a device-less fifo."""
    (root / "rootfs/bin").mkdir(parents=True)
    program = root / "rootfs/bin/program"
    program.write_text("run\n")
    os.link(program, root / "rootfs/bin/again")
    (root / "rootfs/bin/link").symlink_to("/bin/program")
    os.mkfifo(root / "rootfs/fifo")
    os.chown(program, 1000000, 1000001)
    program.chmod(0o4755)
    os.setxattr(program, "user.note", b"kept")
    (root / "rootfs/holes").touch()
    os.truncate(root / "rootfs/holes", 64 << 20)
    os.utime(root / "rootfs/bin", (1, 1))


def assert_same_system(root: Path) -> None:
    program = (root / "rootfs/bin/program").stat()
    assert (program.st_uid, program.st_gid, program.st_mode & 0o7777) == (1000000, 1000001, 0o4755)
    assert program.st_ino == (root / "rootfs/bin/again").stat().st_ino
    assert (root / "rootfs/bin/link").readlink() == Path("/bin/program")
    assert stat.S_ISFIFO((root / "rootfs/fifo").stat().st_mode)
    assert os.getxattr(root / "rootfs/bin/program", "user.note") == b"kept"
    holes = (root / "rootfs/holes").stat()
    assert holes.st_size == 64 << 20 and holes.st_blocks < 100
    assert (root / "rootfs/bin").stat().st_mtime == 1


async def test_a_pool_is_where_it_is_looked_for_and_goes_without_a_trace(pool: Driver) -> None:
    assert pool.mount_point.is_dir()
    assert pool.mount_point.stat().st_mode & 0o777 == 0o711
    await pool.delete()
    assert not pool.mount_point.exists()
    await pool.delete()  # a reconciler that was interrupted does it again


async def test_mounting_and_creating_again_change_nothing(pool: Driver) -> None:
    await pool.create()
    await pool.create_volume(CUSTOM)
    await pool.mount()
    await pool.unmount()
    await pool.mount()
    assert await pool.has_volume(CUSTOM)


async def test_a_volume_is_made_renamed_and_removed(pool: Driver) -> None:
    path = await pool.create_volume(CUSTOM)
    assert path == pool.path(CUSTOM) and path.is_dir()
    (path / "file").write_text("x")
    await pool.rename_volume(CUSTOM, "other")
    renamed = Volume(Kind.CUSTOM, "other")
    assert not await pool.has_volume(CUSTOM)
    assert (pool.path(renamed) / "file").read_text() == "x"
    await pool.delete_volume(renamed)
    assert not await pool.has_volume(renamed)
    await pool.delete_volume(renamed)


async def test_a_volume_that_exists_is_never_taken_over(pool: Driver) -> None:
    path = await pool.create_volume(CUSTOM)
    (path / "file").write_text("x")
    with pytest.raises(DriverError, match="exists already"):
        await pool.create_volume(CUSTOM)
    await pool.create_volume(Volume(Kind.CUSTOM, "other"))
    with pytest.raises(DriverError, match="exists already"):
        await pool.rename_volume(Volume(Kind.CUSTOM, "other"), "data")
    assert (path / "file").read_text() == "x"


async def test_a_container_volume_comes_from_its_image(pool: Driver) -> None:
    path = await pool.create_volume(C1, image=ImageContent("f" * 64, a_small_system))
    assert_same_system(path)
    assert pool.path(C1).parent.stat().st_mode & 0o777 == 0o711


async def test_an_image_that_does_not_unpack_leaves_no_volume(pool: Driver) -> None:
    async def broken(root: Path) -> None:
        (root / "half").write_text("x")
        raise DriverError("Unpack failed")

    with pytest.raises(DriverError, match="Unpack failed"):
        await pool.create_volume(C1, image=ImageContent("f" * 64, broken))
    assert not await pool.has_volume(C1)


async def test_a_creation_that_is_cancelled_leaves_no_volume(pool: Driver) -> None:
    async def endless(root: Path) -> None:
        (root / "half").write_text("x")
        await trio.sleep_forever()

    with trio.move_on_after(0.05):
        await pool.create_volume(C1, image=ImageContent("f" * 64, endless))
    assert not await pool.has_volume(C1)


async def test_a_copy_is_equal_and_apart(pool: Driver) -> None:
    source = await pool.create_volume(C1, image=ImageContent("f" * 64, a_small_system))
    target = await pool.copy_volume(C1, C2)
    assert_same_system(target)
    (target / "rootfs/bin/program").write_text("changed\n")
    assert (source / "rootfs/bin/program").read_text() == "run\n"


async def test_a_snapshot_goes_with_its_directory(pool: Driver) -> None:
    await pool.create_volume(C1, image=ImageContent("f" * 64, a_small_system))
    path = await pool.copy_volume(C1, SNAPSHOT)
    assert_same_system(path)
    assert path.parent.parent.stat().st_mode & 0o777 == 0o700
    await pool.delete_volume(SNAPSHOT)
    assert not path.parent.exists()


async def test_a_snapshot_is_restored_as_often_as_it_takes(pool: Driver) -> None:
    path = await pool.create_volume(C1, image=ImageContent("f" * 64, a_small_system))
    await pool.copy_volume(C1, SNAPSHOT)
    (path / "rootfs/bin/program").write_text("RUN\n")
    (path / "rootfs/new").write_text("since")
    for _ in range(2):
        await pool.restore_volume(SNAPSHOT, C1)
        assert_same_system(path)
        assert (path / "rootfs/bin/program").read_text() == "run\n"
        assert not (path / "rootfs/new").exists()


async def test_a_snapshot_moves_with_its_container(pool: Driver) -> None:
    await pool.create_volume(C1)
    path = await pool.copy_volume(C1, SNAPSHOT)
    await pool.rename_volume(SNAPSHOT, "c2/before")
    assert await pool.has_volume(Volume(Kind.SNAPSHOT, "c2/before"))
    assert not path.parent.exists()


async def test_a_copy_crosses_pools(pool: Driver, tmp_path: Path) -> None:
    await pool.create_volume(C1, image=ImageContent("f" * 64, a_small_system))
    other = open_pool("dir", tmp_path / "state", "p2", {})
    await other.create()
    assert_same_system(await other.copy_volume(C1, C2, origin=pool))
    await other.delete()


async def test_resources_count_what_is_there(pool: Driver) -> None:
    resources = await pool.resources()
    assert 0 < resources.used < resources.total
    assert 0 <= resources.inodes_used <= resources.inodes_total


async def test_quotas_hold_or_are_refused(pool: Driver) -> None:
    await pool.create_volume(C1)
    if pool.capabilities.quotas:
        await pool.set_quota(C1, 64 << 20)
        assert await pool.usage(C1) is not None
    else:
        with pytest.raises(DriverError, match="doesn't support quotas"):
            await pool.set_quota(C1, 64 << 20)
