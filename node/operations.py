"""Operations: one-shot work of this member that a client waits for, watches and may cancel (spec/rest.md 1.6).

Owns their ids, life and rendering; refuses to know what the work is, and to try it again when it fails."""

import hashlib
import secrets
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import structlog
import trio

from lxdnode.node.errors import Invalid, NodeError, NotFound, cause
from lxdnode.node.sockets import Sockets, new_secret

log = structlog.get_logger(__name__)

KEPT = 5.0
"""Seconds that a final operation can still be read."""
PENDING, RUNNING, CANCELLING, SUCCESS, FAILURE, CANCELLED = 105, 103, 104, 200, 400, 401
STATUSES = {
    PENDING: "Pending",
    RUNNING: "Running",
    CANCELLING: "Cancelling",
    SUCCESS: "Success",
    FAILURE: "Failure",
    CANCELLED: "Cancelled",
}
Kind = Literal["task", "websocket", "token"]
Resources = Mapping[str, list[str]] | None
Run = Callable[["Operation"], Awaitable[None]]
Publish = Callable[["Operation"], None]


class Operation:
    """One piece of work. Read its fields, change them through its methods: each change is an event."""

    def __init__(
        self,
        id: str,
        kind: Kind,
        description: str,
        resources: Resources,
        metadata: Mapping[str, Any] | None,
        sockets: Sockets | None,
        may_cancel: bool,
        author: str,
        publish: Publish,
    ) -> None:
        self.id = id
        self.kind = kind
        self.description = description
        self.resources = resources
        self.metadata = metadata
        self.sockets = sockets
        self.author = author
        self.status = PENDING
        self.err = ""
        self.created_at = self.updated_at = datetime.now(UTC)
        self._cancellable = may_cancel
        self._publish = publish
        self._scope = trio.CancelScope()
        self._final = trio.Event()

    @property
    def url(self) -> str:
        """Where it is read."""
        return f"/1.0/operations/{self.id}"

    @property
    def is_final(self) -> bool:
        """Whether its work has ended."""
        return self.status >= SUCCESS

    @property
    def may_cancel(self) -> bool:
        """Tokens always; work only while it runs and can be interrupted."""
        return self.kind == "token" or (self._cancellable and not self.is_final)

    def render(self) -> dict[str, Any]:
        """The operation object of the API."""
        return {
            "id": self.id,
            "class": self.kind,
            "description": self.description,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "status": STATUSES[self.status],
            "status_code": self.status,
            "resources": self.resources,
            "metadata": self.metadata,
            "may_cancel": self.may_cancel,
            "err": self.err,
        }

    def update(self, *, metadata: Mapping[str, Any] | None = None, resources: Resources = None) -> None:
        """Replaces metadata, resources or both. Invalid once the operation is final."""
        if self.is_final:
            raise Invalid(f"operation {self.id} has ended: its metadata stays as it is")
        if metadata is not None:
            self.metadata = metadata
        if resources is not None:
            self.resources = resources
        self.updated_at = datetime.now(UTC)
        self._publish(self)

    def progress(self, key: str) -> Callable[[str], None]:
        """What shows texts on how far the work is, under a key of the metadata beside what else is there."""
        return lambda text: self.update(metadata={**(self.metadata or {}), key: text})

    async def wait(self, timeout: float | None = None) -> None:
        """Returns when it is final, or after `timeout` seconds (None: no limit)."""
        if timeout is None:
            await self._final.wait()
        else:
            with trio.move_on_after(timeout):
                await self._final.wait()

    def cancel(self) -> None:
        """Interrupts the work, or withdraws a token. Invalid with LXD's words when it cannot be."""
        if self.status != RUNNING:
            raise Invalid("Only running operations can be cancelled")
        if not self.may_cancel:
            raise Invalid("This operation can't be cancelled")
        self.status = CANCELLING
        self._publish(self)
        self._scope.cancel()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A client may interrupt the work while the block runs, which then undoes what it did."""
        self._cancellable = True
        try:
            yield
        finally:
            self._cancellable = False

    async def perform(self, run: Run | None) -> None:
        """Runs the work to its end. Never raises but Cancelled: a failure becomes `err`."""
        try:
            with self._scope:
                if run is None:
                    # A token has no work: it waits to be cancelled.
                    await trio.sleep_forever()
                else:
                    await run(self)
            self._end(CANCELLED if self.status == CANCELLING else SUCCESS)
        except Exception as error:
            found = cause(error)
            if not isinstance(found, NodeError):
                log.error("operation failed", operation=self.description, id=self.id, exc_info=error)
            self._end(FAILURE, str(found) or type(found).__name__)
        except trio.Cancelled:
            # The daemon ends; nobody can wait for it any more, but who waits now should know.
            self._end(FAILURE, "the daemon was shut down")
            raise

    def begin(self) -> None:
        """Marks the work as started."""
        self.status = RUNNING
        self._publish(self)

    def _end(self, status: int, err: str = "") -> None:
        self.status, self.err = status, err
        if self.sockets is not None:
            self.sockets.release()
        # Waiters first, then the event (spec/rest.md 1.8).
        self._final.set()
        self._publish(self)


class Operations:
    """The operations of this member. `nursery` runs their work, `publish` tells the listeners of events."""

    def __init__(self, nursery: trio.Nursery, member: int, incarnation: int, publish: Publish) -> None:
        self._nursery = nursery
        self._member = member
        self._incarnation = incarnation
        self._publish = publish
        self._known: dict[str, Operation] = {}

    def create(
        self,
        *,
        kind: Kind,
        description: str,
        run: Run | None = None,
        resources: Resources = None,
        metadata: Mapping[str, Any] | None = None,
        sockets: Sockets | None = None,
        cancel: bool = False,
        author: str = "",
    ) -> Operation:
        """Makes an operation and starts it at once.

        `run(operation)` is the work: it ends well, or raises what becomes `err`. `sockets` are those of a websocket
        operation, whose secrets the caller puts into `metadata`. `cancel`: a client may interrupt `run`, which then
        undoes what it did. `resources` maps a kind to URLs. `author`: who asked."""
        if kind == "token" and metadata is None:
            metadata = {"secret": new_secret()}
        id = operation_id(self._member, self._incarnation)
        operation = Operation(id, kind, description, resources, metadata, sockets, cancel, author, self._publish)
        self._known[id] = operation
        self._publish(operation)
        operation.begin()
        self._nursery.start_soon(self._live, operation, run)
        return operation

    async def _live(self, operation: Operation, run: Run | None) -> None:
        try:
            await operation.perform(run)
            await trio.sleep(KEPT)
        finally:
            del self._known[operation.id]

    def get(self, id: str) -> Operation:
        """An operation of this member. NotFound for an unknown one, and KEPT seconds after the end."""
        found = self._known.get(id)
        if found is None:
            raise NotFound
        return found

    def all(self) -> list[Operation]:
        """All that can be read, the oldest first."""
        return list(self._known.values())

    def is_over(self, id: str) -> bool:
        """Whether an id is one of this member's before its daemon was started anew."""
        parsed = parse_id(id)
        return parsed is not None and parsed[0] == self._member and parsed[1] < self._incarnation

    def belong_to(self, member: int, incarnation: int) -> None:
        """Makes new operations those of another member number: after this server has joined or left a cluster. Those
        that run keep their ids, and are found here all the same."""
        self._member, self._incarnation = member, incarnation

    def owner(self, id: str) -> int | None:
        """The number of the other member that an id names, or None: it is one of ours, or no id of an operation."""
        parsed = None if id in self._known else parse_id(id)
        return None if parsed is None or parsed[0] == self._member else parsed[0]


def operation_id(member: int, incarnation: int) -> str:
    """A valid uuid4 that names member and incarnation (DESIGN.md 3.2), so that any member can route it.

    60 random bits first, so that ids differ where people look; after the variant's bits 4 random ones, 16 of the
    member, 32 of the incarnation, and 10 that tell such an id from any other uuid."""
    noise, more = secrets.randbits(60), secrets.randbits(4)
    low = (more << 58) | (member << 42) | (incarnation << 10) | _check(noise, more, member, incarnation)
    high = (noise >> 12 << 16) | (4 << 12) | (noise & 0xFFF)
    return str(uuid.UUID(int=(high << 64) | (2 << 62) | low))


def parse_id(id: str) -> tuple[int, int] | None:
    """(member, incarnation) of an operation's id; None for any other text."""
    try:
        parsed = uuid.UUID(id)
    except ValueError:
        return None
    if str(parsed) != id or parsed.version != 4:
        return None
    high, low = parsed.int >> 64, parsed.int & (2**62 - 1)
    noise = (high >> 16 << 12) | (high & 0xFFF)
    more, member, incarnation = low >> 58, low >> 42 & 0xFFFF, low >> 10 & 0xFFFFFFFF
    return (member, incarnation) if low & 0x3FF == _check(noise, more, member, incarnation) else None


def lost(id: str, words: str) -> dict[str, Any]:
    """The operation object of one whose member has gone, and nobody knows how far it came: it failed, and `err` says
    why. A 404 would leave its client waiting for an end that it never hears of (DESIGN.md 3.2)."""
    gone = Operation(id, "task", "", None, None, None, False, "", lambda operation: None)
    gone.status, gone.err = FAILURE, words
    return gone.render()


def _check(noise: int, more: int, member: int, incarnation: int) -> int:
    text = f"{noise:x}/{more:x}/{member:x}/{incarnation:x}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=2).digest(), "big") & 0x3FF
