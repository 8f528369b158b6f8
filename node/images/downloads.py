"""Images that come from other servers, kept as this cluster's own (spec/images.md 4).

Owns what is downloaded and what is here already, and what the image is then; refuses to know how a server is asked
(`servers.py`)."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from lxdnode.drivers.config.kinds import show_size
from lxdnode.node.errors import NodeError
from lxdnode.node.images import rules
from lxdnode.node.images.description import describe
from lxdnode.node.images.direct import DirectServer
from lxdnode.node.images.files import Incoming
from lxdnode.node.images.lxd import LxdServer
from lxdnode.node.images.records import IMAGES, Image, Source
from lxdnode.node.images.servers import Found, Server
from lxdnode.node.images.simplestreams import Listings, SimplestreamsServer
from lxdnode.node.proxies import Proxies
from lxdnode.node.web import Way

if TYPE_CHECKING:
    from lxdnode.node.images.images import Images
    from lxdnode.node.node import Node

Report = Callable[[str], None]
"""Takes the text of `download_progress`."""
_BETWEEN_REPORTS = 1.0


@dataclass(frozen=True)
class Kept:
    """As what an image that comes is kept: with `auto_update` and its source only when it was not named by its whole
    fingerprint, unless the source `is_recorded` in any case; `cached` when it comes with a container."""

    auto_update: bool = False
    cached: bool = False
    is_recorded: bool = False

    def lay_over(self, image: Image, source: Source, found: Found) -> Image:
        """The image as it is kept."""
        named = source.alias != found.fingerprint
        return msgspec.structs.replace(
            image,
            cached=self.cached,
            auto_update=self.auto_update and named,
            update_source=source if named or self.is_recorded else None,
        )


class Downloads:
    """The downloads of this member. Methods raise NodeError with LXD's words."""

    def __init__(self, node: "Node", images: "Images") -> None:
        self._node = node
        self._images = images
        self._listings = Listings()

    async def get(self, source: Source, author: str, report: Report, kept: Kept = Kept(), *, secret: str = "") -> str:
        """The fingerprint of an image that a server has, which is in the cluster then, downloaded or not. One that is
        being downloaded here is waited for."""
        server = self._server(source, secret)
        found = await server.find(source.alias)
        async with self._images.lock(found.fingerprint, "download"):
            known = self._node.store.view().get(IMAGES, found.fingerprint)
            if known is None or known.phase != "created":
                async with self._images.incoming() as incoming:
                    image = kept.lay_over(await self._download(server, found, incoming, report), source, found)
                    await self._images.publish(incoming, image, author)
        return found.fingerprint

    def way(self, certificate: str = "") -> Way:
        """How servers of images are reached now."""
        return Way(certificate, Proxies.of(self._node.settings))

    def _server(self, source: Source, secret: str) -> Server:
        way = self.way(source.certificate)
        if source.protocol == "lxd":
            return LxdServer(source, secret, way)
        if source.protocol == "simplestreams":
            return SimplestreamsServer(source, secret, way, self._listings)
        if source.protocol == "direct":
            return DirectServer(source, way)
        raise NodeError(f"Unsupported protocol: {source.protocol}")

    async def _download(self, server: Server, found: Found, incoming: Incoming, report: Report) -> Image:
        """What has come is whole then, and the image that was meant."""
        progress = _Progress(found.size, report)

        async def write(part: str, chunk: bytes) -> None:
            await incoming.write(part, chunk)
            progress.count(len(chunk))

        await server.send(found, write)
        files = await incoming.finish()
        if incoming.fingerprint != found.fingerprint:
            raise NodeError(f"Image fingerprint doesn't match. Got {incoming.fingerprint} expected {found.fingerprint}")
        image = await describe(files)
        told = found.image
        if told is None:
            return image
        return msgspec.structs.replace(told, size=image.size, split=image.split, uploaded_at=image.uploaded_at)

    async def for_container(self, source: Source, author: str, report: Report, *, secret: str = "") -> str:
        """The fingerprint of the image that a container is made of: one that is kept up to date may be older than the
        server's."""
        settings = self._node.settings
        if settings.number("images.auto_update_interval") > 0:
            for fingerprint, image in rules.all_images(self._node.store.view()):
                if image.auto_update and _is_same(image.update_source, source):
                    return fingerprint
        kept = Kept(auto_update=settings.flag("images.auto_update_cached"), cached=True)
        return await self.get(source, author, report, kept, secret=secret)


def _is_same(known: Source | None, source: Source) -> bool:
    """Whether an image came from a source, whatever certificate its server had then."""
    return known is not None and msgspec.structs.replace(known, certificate=source.certificate) == source


class _Progress:
    """Tells how far a download is, once a second."""

    def __init__(self, size: int, report: Report) -> None:
        self._size = size
        self._report = report
        self._done = 0
        self._since = time.monotonic()
        self._reported = self._since - _BETWEEN_REPORTS  # The first bytes are told, too: many images are small.

    def count(self, size: int) -> None:
        """Bytes that have come."""
        self._done += size
        now = time.monotonic()
        if now - self._reported >= _BETWEEN_REPORTS:
            self._reported = now
            self._report(progress(self._done, self._size, max(now - self._since, 0.001)))


def progress(done: int, size: int, seconds: float) -> str:
    """The text of `download_progress`; bytes instead of percent when the size is not known."""
    share = f"{min(100 * done // size, 100)}%" if size else show_size(done)
    return f"{share} ({show_size(int(done / seconds))}/s)"
