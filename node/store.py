"""Writes to the replicated store: a rule is run on a snapshot and committed, again when the snapshot has moved.

Owns the retry on conflict and the translation of the log's outcomes into errors; refuses to know what is written."""

import random
import uuid
from collections.abc import Callable
from typing import TypeVar

import trio

from lxdnode.node.cluster.records import MEMBERS
from lxdnode.node.cluster.rules import outdated
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import AlreadyDone, NodeError, TooLarge, Unavailable
from lxdnode.raft.log import DiskFull, Log, MembershipRefused, NotProposed, OutcomeUnknown, Outdated, Stale
from lxdnode.raft.log import TooLarge as LogTooLarge
from lxdnode.raft.transaction import Committed, Conflict, Expired

T = TypeVar("T")
_ATTEMPTS = 20
_PAUSE = 0.1
"""Seconds that the pause after a conflict grows by: many who write the same must not meet again each time."""
_UNCONFIRMED = "Nothing was changed: this member cannot ask the others whether its state is the newest"


class Store:
    """The documents as the node sees them. `author` of a write is `unix:UID`, `certificate:FINGERPRINT` or
    `member:NUMBER`; `request` is what was asked, for the history."""

    def __init__(self, log: Log, member: int) -> None:
        self.log = log
        self.member = member

    def view(self) -> View:
        """A snapshot of what this member has applied; after `await log.barrier()` it is linearizable."""
        return View(self.log.state)

    async def barrier(self) -> int | None:
        """Waits until this member has applied all that was committed before the call, so that a view is linearizable.

        Returns None, or the index that the local state is at when the cluster could not confirm it in 0.5 s."""
        try:
            await self.log.barrier()
        except Stale:
            return self.log.state.index if "stale_is_told" not in self.log.off else None
        return None

    async def transact(
        self, rule: Callable[[Draft], T], *, author: str, request: str, transaction: str | None = None
    ) -> T:
        """Runs `rule` on a draft of the newest snapshot and commits what it wrote; returns what it returned.

        On a conflict the rule runs again on the newer snapshot. `transaction` is an id given by the client, under
        which a repeated request is applied once (DESIGN.md 3.6): AlreadyDone when it was. Raises what the rule raises;
        Unavailable when there is no quorum or the outcome is unknown."""
        if transaction is not None:
            await self._check_new(transaction)
        for attempt in range(_ATTEMPTS):
            draft, answer = await self._draft(rule)
            if draft.is_empty:
                return answer
            outcome = await self._commit(draft, author, request, transaction and _attempt_id(transaction, attempt))
            if not isinstance(outcome, Conflict | Expired):
                return answer
            await trio.sleep(random.uniform(0, _PAUSE * attempt))
        raise NodeError(f"{request}: gave up after {_ATTEMPTS} conflicts with other changes, try again")

    async def _check_new(self, transaction: str) -> None:
        """AlreadyDone when a client's transaction was committed. Its rule must not judge it again: it would find taken
        the name that the transaction itself took."""
        await self.barrier()
        state = self.log.state
        for attempt in range(_ATTEMPTS):
            outcome = state.answer(_attempt_id(transaction, attempt))
            if outcome is None:
                return
            if isinstance(outcome, Committed):
                raise AlreadyDone(f"transaction {transaction} was committed at index {outcome.index}")

    async def _draft(self, rule: Callable[[Draft], T]) -> tuple[Draft, T]:
        """A draft and what the rule answered. What it writes is checked by the log, but that it refuses, or finds
        nothing to write, is an answer from what it read: it counts only when that was the newest, else Unavailable."""
        draft = Draft(self.log.state)
        try:
            answer = rule(draft)
            if not draft.is_empty:
                return draft, answer
        except NodeError:
            pass
        stale = await self.barrier()
        draft = Draft(self.log.state)
        try:
            answer = rule(draft)
        except NodeError as error:
            if stale is not None:
                raise Unavailable(f"{_UNCONFIRMED}, and what it has says: {error}") from error
            raise
        if stale is not None and draft.is_empty:
            raise Unavailable(_UNCONFIRMED)
        return draft, answer

    async def _commit(self, draft: Draft, author: str, request: str, transaction: str | None) -> object:
        try:
            return await self.log.commit(draft.transaction(author, request, self.member, transaction))
        except NotProposed as error:
            raise Unavailable(self._no_quorum(error)) from error
        except DiskFull as error:
            raise Unavailable(
                "The disk of this member is full: it is read-only until there is room below its state directory. "
                "Nothing was changed; ask another member, or make room"
            ) from error
        except Outdated as error:
            raise Unavailable(outdated(self.view(), error.needed)) from error
        except OutcomeUnknown as error:
            raise Unavailable(
                f"outcome unknown, transaction {error.transaction}: repeat the request with the header "
                f"X-LXD-Node-Transaction: {error.transaction}"
            ) from error
        except MembershipRefused as error:
            raise NodeError(f"{request}: {error}; try again") from error
        except LogTooLarge as error:
            raise TooLarge(str(error)) from error

    def _no_quorum(self, error: NotProposed) -> str:
        """What a user reads when nothing can be written: who is missing, and what to do."""
        known = dict(self.view().all(MEMBERS))
        missing = [known[str(number)] for number in error.missing if str(number) in known]
        if not missing:
            return f"No quorum: {error}. Nothing was changed; try again in a moment"
        names = ", ".join(f"{member.name} ({member.address})" for member in missing)
        return f"No quorum: nothing was changed. Start the missing members, or their network: {names}"


def _attempt_id(transaction: str, attempt: int) -> str:
    """The id of each attempt under a client's id: an attempt that met a conflict has that as its recorded answer for
    ever, so the next one needs an id of its own, the same again when the client repeats the request."""
    return transaction if attempt == 0 else str(uuid.uuid5(uuid.UUID(transaction), str(attempt)))
