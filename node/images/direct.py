"""Images that are one file at a URL: protocol `direct`, and the redirections of `source.type` url (spec/images.md 3).

Owns the headers that lead to such a file; refuses split images."""

from collections.abc import Iterable

from lxdnode.node import web
from lxdnode.node.errors import NodeError
from lxdnode.node.images.files import PARTS
from lxdnode.node.images.multipart import Write
from lxdnode.node.images.records import Source
from lxdnode.node.images.servers import File, Found, checked, fetch
from lxdnode.node.web import Way


class DirectServer:
    """A `Server` of `servers.py` with a single image."""

    def __init__(self, source: Source, way: Way) -> None:
        self._url = source.server
        self._way = way

    async def find(self, name: str) -> Found:
        """The image, whose name is its fingerprint."""
        return Found(checked(name, self._url))

    async def send(self, found: Found, write: Write) -> None:
        """Gives the file to `write`."""
        await fetch(File(PARTS[0], self._url, found.fingerprint), self._way, write)


async def follow(url: str, way: Way, architectures: Iterable[int], version: str) -> Source:
    """The image that a URL leads to with its headers. NodeError with LXD's words."""
    asked = {"LXD-Server-Architectures": ", ".join(map(str, architectures)), "LXD-Server-Version": version}
    async with web.exchange(url, way, method="HEAD", headers=asked) as exchange:
        headers = exchange.headers
    if not headers.get("lxd-image-hash"):
        raise NodeError("Missing LXD-Image-Hash header")
    if not headers.get("lxd-image-url"):
        raise NodeError("Missing LXD-Image-URL header")
    return Source(server=headers["lxd-image-url"], protocol="direct", alias=headers["lxd-image-hash"])
