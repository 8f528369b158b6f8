"""A volume becomes an image: whole, readable by what reads every image, and the same again (spec/containers.md 11)."""

import os
import time
from pathlib import Path

import pytest

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.idmap import IdMap, Range
from lxdnode.drivers.images import metadata
from lxdnode.drivers.images.formats import detect
from lxdnode.drivers.images.pack import pack
from lxdnode.drivers.images.unpack import unpack

METADATA = b"architecture: x86_64\ncreation_date: 1700000000\n"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    root = tmp_path / "volume/rootfs"
    root.mkdir(parents=True)
    (root / "file").write_text("x" * 3_000_000)
    os.chown(root / "file", 12345, 54321)
    os.setxattr(root / "file", "user.note", b"kept")
    (root / "link").symlink_to("/file")
    (tmp_path / "volume/backup.yaml").write_text("not for others")
    return tmp_path / "volume"


async def packed(volume: Path, compressor: str, shifted: IdMap = ()) -> bytes:
    out = bytearray()

    async def write(block: bytes) -> None:
        out.extend(block)

    await pack(volume, METADATA, compressor, write, shifted=shifted)
    return bytes(out)


@pytest.mark.parametrize(
    ("compressor", "extension"), [("gzip", ".tar.gz"), ("xz", ".tar.xz"), ("bzip2", ".tar.bz2"), ("none", ".tar")]
)
async def test_what_was_packed_is_unpacked(volume: Path, tmp_path: Path, compressor: str, extension: str) -> None:
    image, target = tmp_path / "image", tmp_path / "target"
    image.write_bytes(await packed(volume, compressor))
    target.mkdir()
    assert detect(image).extension == extension
    assert (await metadata.read(image)).creation_date == 1700000000
    await unpack(image, target)
    file = target / "rootfs/file"
    assert (file.stat().st_uid, file.stat().st_gid, file.stat().st_size) == (12345, 54321, 3_000_000)
    assert os.getxattr(file, "user.note") == b"kept"
    assert (target / "rootfs/link").readlink() == Path("/file")
    assert not (target / "backup.yaml").exists()


async def test_owners_that_are_shifted_on_the_disk_are_the_containers_in_the_image(
    volume: Path, tmp_path: Path
) -> None:
    for path, uid, gid in (("", 100_000, 100_000), ("file", 101_000, 100_005), ("link", 100_007, 5)):
        os.chown(volume / "rootfs" / path, uid, gid, follow_symlinks=False)
    image, target = tmp_path / "image", tmp_path / "target"
    image.write_bytes(await packed(volume, "none", Range(100_000, 65_536).whole()))
    target.mkdir()
    await unpack(image, target)
    found = [(target / "rootfs" / path).lstat() for path in ("", "file", "link")]
    assert [(one.st_uid, one.st_gid) for one in found] == [(0, 0), (1000, 5), (7, 65_534)]
    assert (volume / "rootfs/file").stat().st_uid == 101_000


async def test_equal_content_gives_equal_bytes(volume: Path) -> None:
    first = await packed(volume, "gzip")
    file = volume / "rootfs/file"
    os.utime(file, ns=(time.time_ns() + 10**11, file.stat().st_mtime_ns))  # it was only read
    assert await packed(volume, "gzip") == first


@pytest.mark.parametrize("compressor", ["no-such-tool", "gzip -1", "/bin/gzip"])
async def test_a_program_that_is_not_on_path_is_refused(volume: Path, compressor: str) -> None:
    with pytest.raises(DriverError, match="executable file not found in"):
        await packed(volume, compressor)


async def test_a_volume_that_cannot_be_read_fails_with_the_tools_words(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match=r"packing .* failed: .*No such file or directory"):
        await packed(tmp_path / "missing", "none")
