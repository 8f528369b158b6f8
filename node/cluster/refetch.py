"""A store that is lost or damaged: this member fetches its state from the others before it does anything else.

Owns the steps of this side and the note that tells whom to ask; why they are safe stands in raft/DESIGN.md ("A member
that lost its log"). A server that stands alone refuses to start: nobody else has what it lost."""

from math import inf
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio

from lxdnode.node.cluster.accept import Neighbour, neighbours, reach
from lxdnode.node.cluster.records import MEMBERS
from lxdnode.node.cluster.rules import is_clustered, members
from lxdnode.node.documents import View
from lxdnode.node.errors import NodeError, Unavailable
from lxdnode.node.http import request
from lxdnode.node.notes import Notes
from lxdnode.node.peers import RAFT_PROTOCOL, dial_member
from lxdnode.node.session import Session, Sessions
from lxdnode.raft.journal import Identity
from lxdnode.raft.log import Log
from lxdnode.raft.state import State

log = structlog.get_logger(__name__)

KIND, NAME = "cluster", "members"
AGAIN = 1.0
"""Seconds between two rounds of asking everybody: who is away makes no event."""
ASK_LIMIT = 15.0
WRITE_AGAIN = 10.0
"""Seconds until a note that the disk did not take is written again."""
KEPT = "raft.damaged"
"""Where the damaged store stays, for whoever wants to look at it."""


class Place(msgspec.Struct, frozen=True):
    """The note: which member of which cluster this server is, and who the others are."""

    identity: Identity
    members: list[Neighbour]


class Refetching(msgspec.Struct, frozen=True):
    """The answer of a member that had the loss recorded: from which term and index on a new log may begin."""

    identity: Identity
    term: int
    index: int


async def keep_note(notes: Notes, own: Log) -> None:
    """Writes down who the members are whenever that changes, until cancelled."""
    async with own.watch(MEMBERS.name) as changes:
        while True:
            pause = inf
            try:
                _write_note(notes, own)
            except OSError as error:  # A disk that is full must not end the daemon.
                log.warning("who the members are is not noted yet", error=str(error))
                pause = WRITE_AGAIN
            with trio.move_on_after(pause):
                await anext(changes)


def _write_note(notes: Notes, own: Log) -> None:
    view, identity = View(own.state), own.identity
    if not is_clustered(view):
        notes.delete(KIND, NAME)
        return
    others = [member for member in members(view) if member.number != identity.member]
    place = Place(identity, neighbours(others))
    if notes.get(KIND, NAME, Place) != place:
        notes.put(KIND, NAME, place)


def place_of(notes: Notes) -> Place | None:
    """What is noted, or None for a server that is in no cluster."""
    return notes.get(KIND, NAME, Place)


class Refetch:
    """One member on its way back into its cluster."""

    def __init__(self, directory: Path, place: Place, sessions: Sessions) -> None:
        self._directory = directory
        self._place = place
        self._sessions = sessions
        self._certificate = (directory / "cluster.crt").read_text()
        self._session: Session | None = None

    async def run(self, why: Exception) -> Log:
        """The log of this member, which holds all that was committed when it began. Waits for the others as long as
        that takes, and says in the log for what."""
        log.error("the store is damaged: fetching it from the other members", reason=str(why))
        start = await self._ask()
        session = self._session = await self._sessions.relearn(
            start.identity,
            [one.number for one in self._place.members],
            term=start.term,
            index=start.index,
            dial=self._dial,
        )
        await session.log.caught_up()
        await self._sessions.replace_lost(session, KEPT)
        log.warning("the store is whole again", index=session.log.state.index, damaged_one=KEPT)
        return session.log

    async def _ask(self) -> Refetching:
        """Has the loss recorded by the first member that can."""
        while True:
            for other in self._place.members:
                try:
                    with trio.fail_after(ASK_LIMIT):
                        return msgspec.convert(await self._request(other), Refetching)
                except (NodeError, trio.TooSlowError) as error:
                    log.warning("a member does not help yet", member=other.number, error=str(error) or "no answer")
            await trio.sleep(AGAIN)

    async def _request(self, other: Neighbour) -> Any:
        stream = await dial_member(self._directory, other.address, self._certificate, {other.fingerprint})
        try:
            return (await request(stream, "POST", "/internal/cluster/refetch")).metadata()
        finally:
            await trio.aclose_forcefully(stream)

    async def _dial(self, number: int) -> trio.abc.Stream:
        """A stream to a member, by what its document says, or before that came by the note."""
        state = self._session.log.state if self._session else State()
        address, keys = reach(View(state), self._place.members, number)
        try:
            return await dial_member(self._directory, address, self._certificate, keys, RAFT_PROTOCOL)
        except Unavailable as error:
            raise OSError(str(error)) from error
