"""Images of a server of plain files that lists them in simplestreams' way (spec/images.md 8).

Owns what the lists mean and how long they are believed; refuses deltas, which save traffic and nothing else."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import msgspec
import trio

from lxdnode.drivers.images.architectures import canonical, host_architectures
from lxdnode.node import web
from lxdnode.node.errors import NodeError
from lxdnode.node.images.files import PARTS
from lxdnode.node.images.multipart import Write
from lxdnode.node.images.records import Image, Source
from lxdnode.node.images.servers import File, Found, fetch, is_fingerprint
from lxdnode.node.web import Way

_LIMIT = 64 << 20
"""Bytes of a list."""
_FRESH = 3600.0
"""Seconds for which a list is not asked for again, and for as long again it is used when nobody answers."""
T = TypeVar("T")
_UBUNTU = "https://cloud-images.ubuntu.com"


class _Entry(msgspec.Struct):
    path: str = ""
    datatype: str = ""
    products: list[str] | None = None


class _Index(msgspec.Struct):
    index: dict[str, _Entry] = {}


class _Item(msgspec.Struct):
    ftype: str = ""
    path: str = ""
    size: int = 0
    sha256: str = ""
    combined_sha256: str = ""
    combined_rootxz_sha256: str = ""
    combined_squashfs_sha256: str = ""


class _Version(msgspec.Struct):
    items: dict[str, _Item] = {}
    label: str = ""


class _Product(msgspec.Struct):
    aliases: str = ""
    arch: str = ""
    os: str = ""
    release: str = ""
    release_title: str = ""
    version: str = ""
    support_eol: str = ""
    versions: dict[str, _Version] = {}


class Products(msgspec.Struct):
    """A list of products, as a server has it; what is not used is left out."""

    products: dict[str, _Product] = {}


@dataclass(frozen=True)
class _Listed:
    """One version of a product, which is one image."""

    product: _Product
    found: Found
    created_at: float

    def names(self) -> Iterator[str]:
        """Its aliases: bare ones for this machine's architecture only."""
        assert self.found.image is not None
        for name in filter(None, self.product.aliases.split(",")):
            if self.found.image.architecture == host_architectures()[0]:
                yield name
            yield f"{name}/{self.product.arch}"


@dataclass(frozen=True)
class Listing:
    """What a server offers: images by fingerprint, and fingerprints by alias."""

    images: Mapping[str, Found]
    aliases: Mapping[str, str]

    def find(self, name: str) -> Found:
        """The image of an alias, or of the beginning of a fingerprint. NodeError with LXD's words."""
        wanted = self.aliases.get(name, name)
        matching = [one for fingerprint, one in self.images.items() if fingerprint.startswith(wanted)]
        if not matching or not wanted:
            raise NodeError("The requested image couldn't be found.")
        if len(matching) > 1:
            raise NodeError("Provided partial image fingerprint matches more than one image")
        return matching[0]


def listing(server: str, products: Iterable[Products]) -> Listing:
    """What lists of products offer; the first image that bears a name has it, the newest of a release."""
    listed = [one for each in products for one in _listed(server, each)]
    listed.sort(key=lambda one: (one.product.os, one.product.release, -one.created_at))
    aliases: dict[str, str] = {}
    for one in listed:
        for name in one.names():
            short = name.removeprefix("ubuntu/") if server.startswith(_UBUNTU) else name
            aliases.setdefault(short, one.found.fingerprint)
    return Listing({one.found.fingerprint: one.found for one in listed}, aliases)


def _listed(server: str, products: Products) -> Iterator[_Listed]:
    for product in products.products.values():
        try:
            architecture = canonical(product.arch)
        except ValueError:
            continue
        for serial, version in product.versions.items():
            found = _found(server, version)
            if found is None or not found.size or (created_at := _seconds(serial[:8], "%Y%m%d")) is None:
                continue
            image = _image(product, version, serial, created_at, architecture)
            yield _Listed(product, replace(found, image=image), created_at)


def _found(server: str, version: _Version) -> Found | None:
    """The files of a version, a squashfs before a tarball; None when they are not all there."""
    by_type = {item.ftype: item for item in version.items.values()}
    metadata = by_type.get("lxd.tar.xz")
    if metadata is None:
        return None
    combined = {"squashfs": metadata.combined_squashfs_sha256, "root.tar.xz": metadata.combined_rootxz_sha256}
    for kind, own in combined.items():
        fingerprint = own or metadata.combined_sha256
        if (root := by_type.get(kind)) is not None and is_fingerprint(fingerprint):
            both = zip(PARTS, (metadata, root), strict=True)
            files = tuple(File(part, f"{server}/{item.path}", item.sha256) for part, item in both)
            return Found(fingerprint, size=metadata.size + root.size, files=files)
    return None


def _image(product: _Product, version: _Version, serial: str, created_at: float, architecture: str) -> Image:
    label = f" ({version.label})" if version.label else ""
    properties = {
        "os": product.os,
        "release": product.release,
        "version": product.version,
        "architecture": product.arch,
        "label": version.label,
        "serial": serial,
        "description": f"{product.os} {product.release_title} {product.arch}{label} ({serial})",
    }
    [metadata] = [item for item in version.items.values() if item.ftype == "lxd.tar.xz"]
    return Image(
        size=0,
        architecture=architecture,
        filename=metadata.path.rpartition("/")[2],
        properties={name: value for name, value in properties.items() if value},
        created_at=created_at,
        expires_at=_seconds(product.support_eol, "%Y-%m-%d") or 0.0,
    )


def _seconds(text: str, pattern: str) -> float | None:
    """Unix time of a date in UTC, None for what is none."""
    try:
        return datetime.strptime(text, pattern).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


class Listings:
    """The lists of the servers that were asked, as long as they are believed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Way], tuple[float, Listing]] = {}

    async def of(self, server: str, way: Way) -> Listing:
        """What a server offers, by the way that it is reached now. NodeError when it cannot be asked, and was not for
        two hours."""
        key = server, way
        known, now = self._known.get(key), trio.current_time()
        if known is not None and now < known[0] + _FRESH:
            return known[1]
        try:
            found = await _ask(server, way)
        except NodeError:
            if known is not None and now < known[0] + 2 * _FRESH:
                return known[1]
            raise
        self._known = {one: each for one, each in self._known.items() if now < each[0] + 2 * _FRESH}
        self._known[key] = now, found
        return found


async def _ask(server: str, way: Way) -> Listing:
    index = await _get(server, way, "streams/v1/index.json", _Index)
    wanted = [one for one in index.index.values() if one.datatype == "image-downloads" and one.products]
    products = [await _get(server, way, one.path, Products) for one in wanted]
    return await trio.to_thread.run_sync(listing, server, products)


async def _get(server: str, way: Way, path: str, kind: type[T]) -> T:
    url = f"{server}/{path}"
    answer = await web.get(url, way, limit=_LIMIT)
    if answer.status != 200:
        raise NodeError(f"Unable to fetch {url}: {answer.status}")
    try:
        return await trio.to_thread.run_sync(partial(msgspec.json.decode, answer.body, type=kind))
    except msgspec.DecodeError as error:
        raise NodeError(f"{url} is no list of images: {error}") from None


class SimplestreamsServer:
    """A `Server` of `servers.py`."""

    def __init__(self, source: Source, secret: str, way: Way, listings: Listings) -> None:
        if secret:
            raise NodeError("Private images aren't supported by the simplestreams protocol")
        self._server = source.server
        self._way = way
        self._listings = listings

    async def find(self, name: str) -> Found:
        """The image of an alias, or of the beginning of a fingerprint."""
        return (await self._listings.of(self._server, self._way)).find(name)

    async def send(self, found: Found, write: Write) -> None:
        """Gives both files to `write`, each checked by its own hash."""
        for file in found.files:
            await fetch(file, self._way, write)
