"""The project's own image: reproducible, and readable by what reads every image."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.images import busybox, metadata
from lxdnode.drivers.images.formats import detect
from lxdnode.drivers.images.unpack import unpack


@pytest.fixture(scope="module")
def parts() -> busybox.Parts:
    try:
        return busybox.assemble(busybox.find_busybox())
    except busybox.NoBusybox as missing:
        pytest.skip(str(missing))


def test_equal_input_gives_equal_bytes(parts: busybox.Parts) -> None:
    again = busybox.assemble(busybox.find_busybox())
    assert busybox.unified(parts) == busybox.unified(again)
    assert busybox.split(parts, squashfs=True) == busybox.split(again, squashfs=True)


def test_another_seed_of_padding_gives_another_image() -> None:
    found = busybox.find_busybox()
    first, second = (
        hashlib.sha256(busybox.unified(busybox.assemble(found, padding=1, seed=seed))).hexdigest() for seed in (1, 2)
    )
    assert first != second


async def test_a_unified_image_unpacks_with_its_owners_and_modes(parts: busybox.Parts, tmp_path: Path) -> None:
    image, target = tmp_path / "image", tmp_path / "container"
    image.write_bytes(busybox.unified(parts))
    target.mkdir()
    await unpack(image, target)
    assert (target / "rootfs/sbin/init").stat().st_mode & 0o7777 == 0o755
    assert (target / "rootfs/tmp").stat().st_mode & 0o7777 == 0o1777
    assert (target / "templates/hostname.tpl").read_text() == "{{ container.name }}\n"
    told = await trio.run_process(["chroot", target / "rootfs", "/bin/sh", "-c", "id -u"],
                          capture_stdout=True)  # fmt: skip
    assert told.stdout.startswith(b"0\n")


@pytest.mark.parametrize("squashfs", [False, True])
async def test_a_split_image_unpacks_into_the_same_tree(parts: busybox.Parts, tmp_path: Path, squashfs: bool) -> None:
    halves = [tmp_path / "metadata", tmp_path / "rootfs"]
    for path, content in zip(halves, busybox.split(parts, squashfs=squashfs), strict=True):
        path.write_bytes(content)
    target = tmp_path / "container"
    target.mkdir()
    await unpack(halves[0], target, rootfs=halves[1])
    assert (await metadata.read(halves[0])).properties["os"] == "Busybox"
    assert (target / "rootfs").stat().st_mode & 0o777 == 0o755
    assert (target / "rootfs/bin/sh").readlink() == Path("/bin/busybox")


@pytest.mark.parametrize(
    ("compress", "extension"),
    [(["cat"], ".tar"), (["gzip"], ".tar.gz"), (["bzip2"], ".tar.bz2"), (["xz"], ".tar.xz"), (["lzma"], ".tar.lzma")],
)
async def test_every_compression_is_told_by_its_bytes(
    parts: busybox.Parts, tmp_path: Path, compress: list[str], extension: str
) -> None:
    image = tmp_path / "image"
    small = busybox.archive([*parts.metadata, busybox.Entry("rootfs")])
    image.write_bytes((await trio.run_process(compress, stdin=small, capture_stdout=True)).stdout)
    assert detect(image).extension == extension
    assert (await metadata.read(image)).architecture
    target = tmp_path / "container"
    target.mkdir()
    await unpack(image, target)


async def test_what_is_no_image_is_refused_with_lxds_words(tmp_path: Path) -> None:
    image, target = tmp_path / "image", tmp_path / "container"
    target.mkdir()
    image.write_bytes(b"hello")
    with pytest.raises(DriverError, match="Unsupported compression"):
        await metadata.read(image)
    with pytest.raises(DriverError, match="Unpack failed, Unsupported compression"):
        await unpack(image, target)
    image.write_bytes(busybox.archive([busybox.Entry("metadata.yaml", 0o644, b"x")]))
    with pytest.raises(DriverError, match=f"Image is missing a rootfs: {image}"):
        await unpack(image, target)


async def test_a_metadata_file_without_end_is_not_read_into_memory(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(busybox.archive([busybox.Entry("metadata.yaml", 0o644, b"#" * (2 << 20))]))
    with pytest.raises(DriverError, match=r"Could not extract image metadata.yaml from tar"):
        await metadata.read(image)


async def test_a_rootfs_that_is_a_link_does_not_lead_out(tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "container"
    outside.mkdir()
    target.mkdir()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("rootfs")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        tar.addfile(link)
    head, root = tmp_path / "metadata", tmp_path / "rootfs"
    head.write_bytes(out.getvalue())
    root.write_bytes(busybox.archive([busybox.Entry("escaped", 0o644, b"x")]))
    with pytest.raises(DriverError, match="Unsupported image format"):
        await unpack(head, target, rootfs=root)
    assert not list(outside.iterdir())
