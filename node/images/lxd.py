"""Images of another server that speaks LXD's API (spec/images.md 4): public ones, and private ones with a secret.

Owns the requests and what their answers mean; refuses to keep anything."""

from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from lxdnode.node import web
from lxdnode.node.errors import NodeError
from lxdnode.node.http import Answer
from lxdnode.node.images import multipart
from lxdnode.node.images.multipart import Write
from lxdnode.node.images.records import Image, Source
from lxdnode.node.images.servers import Found, checked
from lxdnode.node.web import Way

_LIMIT = 4 << 20
"""Bytes of an answer but the files."""


class _Shown(msgspec.Struct):
    """An image as its server shows it."""

    fingerprint: str
    architecture: str
    size: int
    created_at: datetime
    expires_at: datetime
    filename: str = ""
    properties: dict[str, str] | None = None


class LxdServer:
    """A `Server` of `servers.py`; `secret` is good for one private image."""

    def __init__(self, source: Source, secret: str, way: Way) -> None:
        self._url = f"{source.server}/1.0/images"
        self._way = way
        self._query = f"?secret={quote(secret)}" if secret else ""

    async def find(self, name: str) -> Found:
        """The image of a name; with a secret the name is a fingerprint."""
        if not self._query:
            name = await self._target(name)
        told = (await self._get(f"{quote(name, safe='')}{self._query}")).metadata()
        try:
            shown = msgspec.convert(told, _Shown)
        except msgspec.ValidationError as error:
            raise NodeError(f"{self._url}/{name} shows no image: {error}") from None
        return Found(checked(shown.fingerprint, self._url), _record(shown), shown.size)

    async def _target(self, name: str) -> str:
        """The fingerprint that an alias stands for; any other name itself."""
        answer = await self._get(f"aliases/{quote(name, safe='')}")
        if answer.status in (403, 404):
            return name
        told: Any = answer.metadata()
        return str(told.get("target", "")) if isinstance(told, dict) else ""

    async def _get(self, path: str) -> Answer:
        return await web.get(f"{self._url}/{path}", self._way, limit=_LIMIT)

    async def send(self, found: Found, write: Write) -> None:
        """Gives the image's file to `write`, or both halves, the metadata first."""
        url = f"{self._url}/{found.fingerprint}/export"
        async with web.exchange(url + self._query, self._way) as exchange:
            if exchange.status != 200:
                raise NodeError(f"Unable to fetch {url}: {exchange.status}")
            await multipart.receive(exchange.headers.get("content-type", ""), exchange.chunks(), write)


def _record(shown: _Shown) -> Image:
    return Image(
        size=shown.size,
        architecture=shown.architecture,
        filename=shown.filename,
        properties=shown.properties or {},
        created_at=shown.created_at.timestamp(),
        expires_at=shown.expires_at.timestamp(),
    )
