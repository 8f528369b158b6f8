"""The file formats of images, told by their first bytes (spec/images.md 1).

Owns the table of formats; refuses to trust a file's name."""

from dataclasses import dataclass
from pathlib import Path

from lxdnode.drivers.errors import DriverError

_HEAD = 512


@dataclass(frozen=True)
class Format:
    """`extension` as in the name of an export; `signatures`: (offset, bytes), any of which tells the format.

    `tar`: the option that makes tar read it (tar itself does not know lzma by its bytes)."""

    extension: str
    signatures: tuple[tuple[int, bytes], ...]
    tar: str = ""
    squashfs: bool = False

    def matches(self, head: bytes) -> bool:
        """Whether a file that begins with `head` is of this format."""
        return any(head.startswith(magic, offset) for offset, magic in self.signatures)


# The first that matches counts: xz and lzma share a part of their signature.
FORMATS = (
    Format(".tar.bz2", ((0, b"BZ"),), "--bzip2"),
    Format(".tar.gz", ((0, b"\x1f\x8b"),), "--gzip"),
    Format(".tar.xz", ((0, b"\xfd7zXZ"),), "--xz"),
    Format(".tar.lzma", ((1, b"7zXZ"), (0, b"\x5d\x00\x00")), "--lzma"),
    Format(".tar", ((257, b"ustar"),), "--no-auto-compress"),
    Format(".squashfs", ((0, b"hsqs"),), squashfs=True),
)


def detect(path: Path) -> Format:
    """The format of a file. DriverError `Unsupported compression` for anything else."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for known in FORMATS:
        if known.matches(head):
            return known
    raise DriverError("Unsupported compression")
