"""Images that were downloaded, as time goes by: newer ones are fetched, those that nobody uses any more go
(spec/images.md 4).

Owns when that is due, and has the leader's member do it; refuses to know how a server is asked (`downloads.py`)."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import structlog
import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.node.documents import View
from lxdnode.node.errors import NodeError, NotFound
from lxdnode.node.images import rules
from lxdnode.node.images.downloads import Kept, Report
from lxdnode.node.images.records import USES, Use
from lxdnode.raft.log import Log

if TYPE_CHECKING:
    from lxdnode.node.images.images import Images
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)

_LOOK = 1.0
"""Seconds between two looks: to become the leader makes no event."""
_HOUR = 3600.0
_DAY = 24 * _HOUR
_UPDATES, _EXPIRY = "images.auto_update_interval", "images.remote_cache_expiry"


def expired(view: View, days: int, now: float) -> Iterator[str]:
    """The fingerprints of the images that came with containers, and of which none was made for so many days (0: of
    none). `now`: Unix time."""
    for fingerprint, image in rules.all_images(view):
        used = (view.get(USES, fingerprint) or Use()).last_used_at or image.uploaded_at
        if image.cached and days > 0 and used + days * _DAY <= now:
            yield fingerprint


class Updates:
    """The updates and the expiry of the cluster's images, while this member leads."""

    def __init__(self, node: "Node", images: "Images") -> None:
        self._node = node
        self._images = images

    async def refresh(self, fingerprint: str, author: str, report: Report) -> bool:
        """Looks for a newer image at the source of one, and puts it in its place; whether there was one. NotFound when
        it has no source; NodeError with LXD's words."""
        fingerprint, image = rules.find(self._node.store.view(), fingerprint)
        if image.update_source is None:
            raise NotFound
        kept = Kept(image.auto_update, image.cached)
        new = await self._images.downloads.get(image.update_source, author, report, kept)
        if new == fingerprint:
            return False
        await self._images.supersede(fingerprint, new, author)
        return True

    async def keep(self, own: Log) -> None:
        """Updates images at once and every `images.auto_update_interval` hours, and removes expired ones once a day and
        when `images.remote_cache_expiry` changes, until cancelled."""
        settings = self._node.settings
        updated, looked, days = -float("inf"), trio.current_time(), settings.number(_EXPIRY)
        while True:
            await own.leading()
            await trio.sleep(_LOOK)
            interval, now = settings.number(_UPDATES) * _HOUR, trio.current_time()
            if interval > 0 and now >= updated + interval:
                updated = now
                await self._update_all()
            if now >= looked + _DAY or settings.number(_EXPIRY) != days:
                looked, days = now, settings.number(_EXPIRY)
                await self._expire(days)

    async def _update_all(self) -> None:
        for fingerprint, image in rules.all_images(self._node.store.view()):
            if not image.auto_update or image.update_source is None:
                continue
            try:
                if await self.refresh(fingerprint, self._author, lambda _text: None):
                    log.info("image updated", old=fingerprint, server=image.update_source.server)
            except Exception as error:
                # Whatever another server sends, and whatever the disk says: the other images' turn comes all the same.
                log.warning(
                    "image not updated", fingerprint=fingerprint, error=repr(error), exc_info=_unforeseen(error)
                )

    async def _expire(self, days: int) -> None:
        for fingerprint in list(expired(self._node.store.view(), days, time.time())):
            try:
                await self._images.delete(fingerprint, self._author)
                log.info("image expired", fingerprint=fingerprint)
            except Exception as error:
                # As above; what is left is removed by the reconciler, or the next day.
                log.warning(
                    "expired image not removed", fingerprint=fingerprint, error=repr(error), exc_info=_unforeseen(error)
                )

    @property
    def _author(self) -> str:
        return f"member:{self._node.member}"


def _unforeseen(error: Exception) -> bool:
    """Whether a failure is a fault of ours, whose traceback the log needs."""
    return not isinstance(error, NodeError | DriverError | OSError)
