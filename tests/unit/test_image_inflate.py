"""The plain form of an image in memory is the image's, and goes when nobody holds it."""

import gzip
import os
from pathlib import Path

from lxdnode.drivers.images.inflate import LIMIT, inflate


def descriptors() -> set[str]:
    """What this process has open."""
    return {os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.exists()}  # noqa: PTH115


def test_a_file_is_inflated_once_and_again_when_it_changes(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(gzip.compress(b"one") + gzip.compress(b"two"))
    first = inflate(image)
    assert first is not None and first.path.read_bytes() == b"onetwo"
    assert inflate(image) is first
    image.write_bytes(gzip.compress(b"another"))
    second = inflate(image)
    assert second is not None and second.path.read_bytes() == b"another"
    assert first.path.read_bytes() == b"onetwo"  # Whoever still unpacks it is not disturbed.


def test_what_is_large_or_broken_is_left_to_tar(tmp_path: Path) -> None:
    large, broken = tmp_path / "large", tmp_path / "broken"
    large.write_bytes(gzip.compress(bytes(LIMIT + 1), compresslevel=1))
    broken.write_bytes(gzip.compress(os.urandom(100_000))[:-50])
    assert inflate(large) is None
    assert inflate(broken) is None
    assert not [name for name in descriptors() if "memfd:image" in name]
