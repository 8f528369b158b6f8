"""The history of this member: replayed from any index on, made whole with what other members know, and pruned.

Owns when a peer is asked, and what counts as a gap; `raft/archive.py` has the files, `entries.py` the rows."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import structlog
import trio

from lxdnode.node.cluster.rules import members
from lxdnode.node.errors import NodeError
from lxdnode.node.history import entries
from lxdnode.node.history.entries import find
from lxdnode.node.peers import Peers
from lxdnode.node.server.records import SETTINGS
from lxdnode.node.settings import Settings
from lxdnode.node.store import Store
from lxdnode.raft import archive
from lxdnode.raft.archive import Chunk
from lxdnode.raft.disk import Disk
from lxdnode.raft.history import Change
from lxdnode.raft.log import Log, Reset

log = structlog.get_logger(__name__)

DAY = 86400.0
DAYS = "cluster.history_days"
LOOK_EVERY = 3600.0
"""Seconds between two looks at what has become too old."""
AGAIN = 60.0
"""Seconds after which members that could not be asked for what is missing are asked again, once they are heard."""
_ASK_LIMIT = 10.0


@dataclass(frozen=True, slots=True)
class Gap:
    """What happened behind `after`, up to `index`, is not known to any member that could be asked."""

    after: int
    index: int


class Replay:
    """Iterating gives every Change behind an index once and in order, or the Gap in its place; then what comes. It
    ends when the log is not the store any more. Nothing is held for a reader that takes its time."""

    def __init__(self, history: "History", own: Log, after: int) -> None:
        self._history = history
        self._log = own
        self._after = after
        self._ready: deque[Change | Gap] = deque()

    def __aiter__(self) -> "Replay":
        return self

    async def __anext__(self) -> Change | Gap:
        while not self._ready:
            if not await self._log.news(self._after):
                raise StopAsyncIteration
            self._ready.extend(await self._history.behind(self._log, self._after))
        item = self._ready.popleft()
        self._after = item.index
        return item


class History:
    """What this member knows of the past."""

    def __init__(self, store: Store, peers: Peers) -> None:
        self._store = store
        self._peers = peers
        self._settings = Settings(store)
        self._mending = trio.Lock()
        self._unknown: set[tuple[int, int]] = set()

    def replay(self, own: Log, after: int) -> Replay:
        """Everything behind an index of the store, and what comes."""
        return Replay(self, own, max(after, archive.BEGINNING))

    async def behind(self, own: Log, after: int) -> Sequence[Change | Gap]:
        """The next part of what was applied behind an index, which must not be the newest."""
        recent = own.changes_since(after)
        if recent is not None:
            return recent
        try:
            told = await own.past.read(lambda disk: _told(disk, after))
            if told is None or (isinstance(told[0], Gap) and all(told[0].index != end for _, end in self._unknown)):
                await self._mend(own)
                told = await own.past.read(lambda disk: _told(disk, after))
        except OSError as error:
            log.warning("the history cannot be read", error=str(error))
            told = None
        return told or [Gap(after, own.state.index)]

    async def find(self, values: dict[str, str]) -> msgspec.Raw:
        """The rows that parameters ask for (`entries.ask`), none older than the setting allows: `entries.Found` as
        JSON, which may be large. Invalid."""
        question = entries.ask(values, self._store.view())
        question = replace(question, since_at=max(question.since_at, self._oldest()))
        return await self._store.log.past.read(lambda disk: msgspec.Raw(msgspec.json.encode(find(disk, question))))

    async def chunks(self, after: int, until: int) -> bytes:
        """What this member knows behind an index up to another one, or a first part of it, for another member."""
        return b"".join(map(archive.encode, archive.clip(await self._store.log.past.page(after), after, until)))

    async def tend(self, own: Log) -> None:
        """Prunes the history and makes it whole, until cancelled."""
        if own.past.unread is not None:
            log.error("a part of the history cannot be read, and is missing here", error=str(own.past.unread))
        missed = set(self._others(own))
        async with own.watch(SETTINGS.name) as news:
            while True:
                try:
                    await own.past.prune(self._oldest())
                    if missed & self._heard(own):  # To look for gaps reads all files: not while nobody has come back.
                        self._unknown.clear()
                        missed = await self._mend(own)
                except OSError as error:  # it stops nothing else
                    log.warning("the history cannot be tended", error=str(error))
                with trio.move_on_after(AGAIN if missed else LOOK_EVERY):
                    async for change in news:
                        if isinstance(change, Reset):
                            missed = set(self._others(own))
                        if isinstance(change, Reset) or any(key[2] == DAYS for key in change.keys):
                            break

    def _oldest(self) -> float:
        """The time before which nothing is kept."""
        return time.time() - self._settings.number(DAYS) * DAY

    async def _mend(self, own: Log) -> set[int]:
        """Asks the others for what is missing here; which of them could not be asked."""
        missed = set[int]()
        async with self._mending:
            gaps = await own.past.gaps()
            for number in self._others(own):
                try:
                    for after, until in filter(self._is_unasked, gaps):
                        await self._fetch(own, number, after, until)
                except (NodeError, OSError, trio.TooSlowError) as error:
                    log.info("a member does not tell what is missing here", member=number, error=str(error))
                    missed.add(number)
                gaps = gaps and await own.past.gaps()
            self._unknown.update(gaps)
        return missed

    def _is_unasked(self, gap: tuple[int, int]) -> bool:
        """Whether nobody was asked for a gap. That before the first change known here only grows as it is pruned: it is
        asked for once."""
        front = gap[0] == archive.BEGINNING and any(after == archive.BEGINNING for after, _ in self._unknown)
        return not front and gap not in self._unknown

    def _others(self, own: Log) -> list[int]:
        """The other members, those first that were heard last."""
        ages = own.liveness()
        others = [one.number for one in members(self._store.view()) if one.number != self._store.member]
        return sorted(others, key=lambda number: ages.get(number, float("inf")))

    def _heard(self, own: Log) -> set[int]:
        """The members that were heard since the last try."""
        return {number for number, age in own.liveness().items() if age < AGAIN}

    async def _fetch(self, own: Log, number: int, after: int, until: int) -> None:
        """Takes over what a member knows of a gap."""
        while after < until:
            path = f"/internal/history/chunks?after={after}&until={until}"
            with trio.fail_after(_ASK_LIMIT):
                answer = await self._peers.request(number, "GET", path)
            if answer.status != 200:
                answer.metadata()
                raise NodeError(f"member {number}: unexpected answer {answer.status}")
            chunks = _connected(archive.clip(archive.decode(answer.body), after, until))
            if not chunks:
                return
            await own.past.insert(chunks)
            after = chunks[-1].index
            log.info("what was missing in the history is here now", member=number, index=after)


def _told(disk: Disk, after: int) -> list[Change | Gap] | None:
    """The next part of what the files tell of what is behind an index, or the gap that is there; None at their end."""
    page = next(archive.forwards(disk, after), None)
    if page is None:
        return None
    if page[0].after > after:
        return [Gap(after, page[0].after)]
    changes = [one.change() for chunk in page for one in chunk.entries if one.index > after]
    return [*changes, Change(page[-1].index)]


def _connected(chunks: list[Chunk]) -> list[Chunk]:
    """The first chunks, as far as each begins where the one before ends."""
    for place in range(1, len(chunks)):
        if chunks[place].after != chunks[place - 1].index:
            return chunks[:place]
    return chunks
