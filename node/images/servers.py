"""Servers that images come from, by protocol (spec/images.md 4): what each of them can be asked.

Owns the table of protocols and the check of a downloaded file; refuses to keep what it gets."""

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol

from lxdnode.node import web
from lxdnode.node.errors import NodeError
from lxdnode.node.images.multipart import Write
from lxdnode.node.images.records import Image
from lxdnode.node.web import Way

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class File:
    """One file to download: where its bytes belong (`metadata`, `rootfs`), its URL and its SHA-256."""

    part: str
    url: str
    sha256: str


@dataclass(frozen=True)
class Found:
    """An image on a server. `image`: what the server says of it, None for what metadata.yaml says. `size`: bytes of all
    files, 0 when not known. `files`: where they are, for protocols that name them."""

    fingerprint: str
    image: Image | None = None
    size: int = 0
    files: tuple[File, ...] = ()


class Server(Protocol):
    """One server of images. Methods raise NodeError with LXD's words."""

    async def find(self, name: str) -> Found:
        """The image of a name: an alias, or (the beginning of) a fingerprint."""

    async def send(self, found: Found, write: Write) -> None:
        """Gives the files of an image to `write`, in the order in which its fingerprint is made of them."""


def is_fingerprint(text: str) -> bool:
    """Whether a text is a whole fingerprint."""
    return _FINGERPRINT.fullmatch(text) is not None


def checked(fingerprint: str, server: str) -> str:
    """A fingerprint that a server has told, which becomes the name of a file. NodeError when it is none."""
    if not is_fingerprint(fingerprint):
        raise NodeError(f"{server} names an image by '{fingerprint}', which is no fingerprint")
    return fingerprint


async def fetch(file: File, way: Way, write: Write) -> None:
    """Gives one file to `write`. NodeError with LXD's words when it is not there, or another one."""
    got = hashlib.sha256()
    async with web.exchange(file.url, way) as exchange:
        if exchange.status != 200:
            raise NodeError(f"Unable to fetch {file.url}: {exchange.status}")
        async for chunk in exchange.chunks():
            got.update(chunk)
            await write(file.part, chunk)
    if got.hexdigest() != file.sha256:
        raise NodeError(f"Hash mismatch for {file.url}: {got.hexdigest()} != {file.sha256}")
