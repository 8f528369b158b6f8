"""The images of this member: taken in, fetched from other members, and removed.

Owns the way of files from arrival to publication; refuses to decide what is allowed (`rules.py`)."""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, Unpack

import msgspec
import structlog
import trio

from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import AlreadyExists, NodeError, Unavailable
from lxdnode.node.images import rules
from lxdnode.node.images.description import describe
from lxdnode.node.images.downloads import Downloads
from lxdnode.node.images.files import PARTS, Files, Incoming, files_of, remove, sweep
from lxdnode.node.images.records import IMAGES, Image
from lxdnode.node.images.updates import Updates
from lxdnode.node.node import Node
from lxdnode.node.reconcile.loop import Reconciler

log = structlog.get_logger(__name__)
T = TypeVar("T")
_INTENTS = "images"


class Intent(msgspec.Struct):
    """A note that files of an image (its fingerprint) get their names before any document speaks of them."""


@dataclass(frozen=True)
class Wanted:
    """What a client asks of an image that it uploads. `expected`: the fingerprint, "" = any. `times`: when it was made
    and when it expires, None for what metadata.yaml says."""

    filename: str = ""
    public: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)
    expected: str = ""
    aliases: tuple[tuple[str, str], ...] = ()
    times: tuple[float, float] | None = None


class Images:
    """The images on this member, their files in `images/` of the state directory."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._fetching: dict[str, trio.Event] = {}
        self.downloads = Downloads(node, self)
        self.updates = Updates(node, self)
        sweep(self.directory)

    async def start(self) -> None:
        """Removes files that a daemon of before has named, and fell before it could say so."""
        for fingerprint, _intent in list(self._node.notes.all(_INTENTS, Intent)):
            async with self.lock(fingerprint, "clean"):
                if self.here(fingerprint) is None:
                    remove(self.directory, fingerprint)
                self._node.notes.delete(_INTENTS, fingerprint)

    # Members that come and go.

    def fingerprints(self, view: View) -> list[str]:
        """The images that there are, sorted."""
        return [fingerprint for fingerprint, _image in rules.all_images(view)]

    def only_on(self, view: View, number: int) -> list[str]:
        """The images that would be lost with a member, sorted."""
        return [one for one in self.fingerprints(view) if rules.holders(view, one) == [number]]

    def remove_member(self, draft: Draft, number: int) -> None:
        """Drops a member's placements, and the images that were on it alone."""
        for fingerprint, _image in list(draft.all(IMAGES)):
            rules.displace(draft, fingerprint, number)
            if not rules.holders(draft, fingerprint) and draft.get(IMAGES, fingerprint) is not None:
                rules.condemn(draft, fingerprint)

    def unknown(self, view: View) -> list[str]:
        """Files of images on this host that no placement speaks of."""
        if not self.directory.is_dir():
            return []
        paths = [path for path in self.directory.iterdir() if not path.name.startswith(".")]
        known = {fp for fp, _image in view.all(IMAGES) if self._node.member in rules.holders(view, fp)}
        return sorted(str(path) for path in paths if path.name.partition(".")[0] not in known)

    # Taking in.

    @property
    def directory(self) -> Path:
        """Where the files are."""
        return self._node.directory / "images"

    def incoming(self) -> Incoming:
        """A place for an image that arrives."""
        return Incoming(self.directory)

    async def take(self, incoming: Incoming, wanted: Wanted, author: str) -> tuple[str, int]:
        """Makes an image of what has arrived; returns (fingerprint, size). NodeError with LXD's words."""
        files = await incoming.finish()
        incoming.check(wanted.expected)
        fingerprint, image = incoming.fingerprint, await describe(files)
        created_at, expires_at = wanted.times or (image.created_at, image.expires_at)
        image = msgspec.structs.replace(
            image,
            filename=wanted.filename,
            public=wanted.public,
            properties={**image.properties, **wanted.properties},
            created_at=created_at,
            expires_at=expires_at,
        )
        async with self.lock(fingerprint, "import"):
            known = self._node.store.view().get(IMAGES, fingerprint)
            if known is not None and known.phase == "created":
                raise NodeError("Image with same fingerprint already exists")
            if not await self.publish(incoming, image, author):
                raise NodeError("Image with same fingerprint already exists")
        await self._name(fingerprint, wanted.aliases, author)
        return fingerprint, image.size

    async def amend(
        self, fingerprint: str, author: str, *, aliases: Sequence[tuple[str, str]], **asked: Unpack[rules.Amendment]
    ) -> int:
        """Lays over an image what was asked of its copy, and gives it its (name, description) aliases, which may be
        taken; the image stays then. Returns its size."""
        await self._write(author, "amend image", lambda draft: rules.amend(draft, fingerprint, **asked))
        await self._name(fingerprint, aliases, author)
        return rules.find(self._node.store.view(), fingerprint)[1].size

    async def _name(self, fingerprint: str, aliases: Sequence[tuple[str, str]], author: str) -> None:
        if aliases:
            await self._write(author, "name image", lambda draft: rules.create_aliases(draft, fingerprint, aliases))

    def lock(self, fingerprint: str, what: str) -> AbstractAsyncContextManager[None]:
        """Held by who brings or removes the files of an image on this member."""
        return self._node.locks.hold(f"image:{fingerprint}", what)

    async def publish(self, incoming: Incoming, image: Image, author: str) -> bool:
        """Makes an image of files that are whole, under its lock; False when another member was faster. Files first,
        then the document: whoever sees the document finds the files."""
        fingerprint, member = incoming.fingerprint, self._node.member
        self._name_files(incoming)
        is_new = True
        try:
            await self._write(author, "import image", lambda draft: rules.add(draft, fingerprint, image, member))
        except AlreadyExists:
            # That this member has the files as well is worth a placement.
            await self._write(author, "import image", lambda draft: rules.place(draft, fingerprint, member))
            is_new = False
        self._node.notes.delete(_INTENTS, fingerprint)
        return is_new

    def _name_files(self, incoming: Incoming) -> Files:
        """Gives files their names, with a note that stays until a document says that they are here."""
        self._node.notes.put(_INTENTS, incoming.fingerprint, Intent())
        return incoming.publish()

    async def require(self, fingerprint: str) -> Files:
        """The files of an image on this member, fetched from another one when they are not here: once, however many
        wait. NotFound; NodeError with LXD's words when no member that has them can be reached."""
        while True:
            if found := self.here(fingerprint):
                return found
            if fingerprint not in self._fetching:
                break
            await self._fetching[fingerprint].wait()
        fetched = self._fetching[fingerprint] = trio.Event()
        try:
            async with self.lock(fingerprint, "fetch"):
                return self.here(fingerprint) or await self._fetch(fingerprint)
        finally:
            del self._fetching[fingerprint]
            fetched.set()

    def here(self, fingerprint: str) -> Files | None:
        """The files of an image, if this member says that it has them: files alone may be being removed."""
        if self._node.member in rules.holders(self._node.store.view(), fingerprint):
            return files_of(self.directory, fingerprint)
        return None

    async def _fetch(self, fingerprint: str) -> Files:
        view = self._node.store.view()
        _fingerprint, image = rules.find(view, fingerprint)
        parts = PARTS if image.split else PARTS[:1]
        failures = []
        for holder in self._sources(fingerprint):
            try:
                async with self.incoming() as incoming:
                    for part in parts:
                        await self._copy(holder, fingerprint, part, incoming)
                    await incoming.finish()
                    incoming.check(fingerprint)
                    found = self._name_files(incoming)
                break
            except NodeError as error:
                log.warning("image not fetched", fingerprint=fingerprint, member=holder, error=str(error))
                failures.append(str(error))
        else:
            raise NodeError("; ".join(["image not available on any online node", *failures]))
        await self._write(
            f"member:{self._node.member}",
            "fetch image",
            lambda draft: rules.place(draft, fingerprint, self._node.member),
        )
        self._node.notes.delete(_INTENTS, fingerprint)
        return found

    def _sources(self, fingerprint: str) -> list[int]:
        """The other members that have the files, those that were heard last first."""
        ages = self._node.log.liveness()
        holders = rules.holders(self._node.store.view(), fingerprint)
        others = [number for number in holders if number != self._node.member]
        return sorted(others, key=lambda number: ages.get(number, float("inf")))

    def holder(self, fingerprint: str) -> int | None:
        """The other member to ask for the files of an image, or None when no other has them."""
        return next(iter(self._sources(fingerprint)), None)

    def admits(self, url: str, secret: str) -> bool:
        """Whether a secret of this member is good for an image; its first use ends it, yet it is kept for some seconds,
        in which a client gets both the image's object and its files (spec/images.md 5)."""
        for token in self._node.operations.all():
            is_meant = token.kind == "token" and url in (token.resources or {}).get("images", [])
            if is_meant and secrets.compare_digest((token.metadata or {}).get("secret", ""), secret):
                if not token.is_final:
                    token.cancel()
                return True
        return False

    async def _copy(self, holder: int, fingerprint: str, part: str, incoming: Incoming) -> None:
        path = f"/internal/images/{fingerprint}/{part}"
        async with self._node.peers.exchange(holder, "GET", path) as exchange:
            if exchange.status != 200:
                raise Unavailable(f"member {holder} answered {exchange.status} for {path}")
            async for chunk in exchange.chunks():
                await incoming.write(part, chunk)

    async def delete(self, fingerprint: str, author: str) -> None:
        """Deletes an image; this member's files are gone afterwards, the other holders follow. NotFound."""
        found = await self._write(author, "delete image", lambda draft: rules.condemn(draft, fingerprint))
        await self.reconcile(found)

    async def supersede(self, old: str, new: str, author: str) -> None:
        """Puts a newer image in the place of an older one, which is deleted. NotFound."""
        await self._write(author, "update image", lambda draft: rules.supersede(draft, old, new))
        await self.reconcile(old)

    async def use(self, fingerprint: str) -> None:
        """Records that a container was made of an image."""
        await self._write(f"member:{self._node.member}", "use image", lambda draft: rules.use(draft, fingerprint))

    async def _write(self, author: str, request: str, rule: Callable[[Draft], T]) -> T:
        return await self._node.store.transact(rule, author=author, request=request)

    # Deleted images whose files are still here.

    def reconcilers(self) -> list[Reconciler]:
        """Removes this member's files of deleted images."""
        return [Reconciler(IMAGES.name, self._ids, self.reconcile)]

    def _ids(self) -> Iterable[str]:
        return [fingerprint for fingerprint, _image in self._node.store.view().all(IMAGES)]

    async def reconcile(self, fingerprint: str) -> None:
        """Removes the files of a deleted image and says so."""
        async with self.lock(fingerprint, "remove"):
            view = self._node.store.view()
            image = view.get(IMAGES, fingerprint)
            if image is None or image.phase != "deleting":
                return
            if self._node.member in rules.holders(view, fingerprint):
                remove(self.directory, fingerprint)
            await self._write(
                f"member:{self._node.member}",
                "remove image files",
                lambda draft: rules.displace(draft, fingerprint, self._node.member),
            )
