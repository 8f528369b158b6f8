"""What the Raft paper says of messages, held at the boundary: the library sees only what it can be trusted with.

One function a rule; each has a hand-made test that fails without it (`off`, for tests alone). Refuses to keep time."""

from collections.abc import Callable, Collection

from lxdnode.raft.core import ELECTION_MIN, Core, Message
from lxdnode.raft.journal import Journal

Send = Callable[[int, Message], None]


class Guard:
    """Messages come in by `admit`, what the core sends goes out by `emit`, acknowledgements by `acknowledge`."""

    def __init__(self, journal: Journal, send: Send, off: Collection[str] = ()) -> None:
        self.core: Core
        self.journal = journal
        self.send = send
        self.off = off
        self.heard_at = float("-inf")  # when a leader of the current term was heard last
        self._votes: tuple[int, set[int]] = (0, set())
        self._compared = 0  # up to where the append at hand agrees with this log
        self._round = 0  # of the append at hand
        self._asked = True  # whether the append at hand wants an answer in any case
        self._owed: Message | None = None  # the acknowledgement that the leader waits for
        self._owed_to = 0
        self._sent_index = 0

    # In.

    def admit(self, now: float, member: int, message: Message) -> None:
        """Pass a message of pysyncobj's kinds, or a `stale`, on to the core if every rule lets it through."""
        kind = message["type"]
        for rule in (*_ALL, *_RULES.get(kind, ())):
            if rule.__name__ in self.off:
                continue
            admitted = rule(self, now, member, message)
            if admitted is None:
                return
            message = admitted
        if kind == "append_entries":
            self._append(now, member, message)
        elif kind == "next_node_idx":
            self._answer(now, member, message)
        else:
            self.core.receive(now, member, message)

    def _append(self, now: float, member: int, message: Message) -> None:
        if message["term"] >= self.core.term:
            self.heard_at = now
        self._round = message.get("round", 0)
        self._asked = message.get("asks", True)
        compared = message.get("prevLogIdx", 0) + len(message.get("entries", ()))
        self._compared = message.get("compared", compared)
        self.core.receive(now, member, message)

    def _answer(self, now: float, member: int, message: Message) -> None:
        before = self.core.next_of(member)
        self.core.receive(now, member, message)
        for rule in _AFTER_ANSWERS:
            if rule.__name__ not in self.off:
                rule(self, member, message, before)
        self.core.landed(member)

    # Out.

    def emit(self, member: int, message: Message) -> None:
        """What the core sends: stamped with term and read round; acknowledgements wait for the disk."""
        if message["type"] == "next_node_idx":
            self._note_answer(member, message)
            return
        message["term"] = message.get("term", self.core.term)
        if message["type"] == "append_entries":
            message["round"] = self.core.round
        self.send(member, message)

    def _note_answer(self, member: int, message: Message) -> None:
        message |= {"term": self.core.term, "round": self._round}
        if message["success"]:
            if "answer_what_was_compared" not in self.off:
                message["next_node_idx"] = self._compared + 1
            if self._asked or self._owed is None or self._owed["term"] != message["term"]:
                self._sent_index = -1
            self._owed, self._owed_to = message, member
        elif message["reset"]:
            # Whatever differs, both logs agree up to what is committed here: one step back, not one an entry.
            message["next_node_idx"] = min(message["next_node_idx"], max(self.journal.commit, self.journal.base) + 1)
            self.send(member, message)

    def acknowledge(self) -> None:
        """Answer the last append with what is both compared and durable; again when the disk has more of it."""
        owed = self._owed
        if owed is None or owed["term"] != self.core.term:
            self._owed = None
            return
        index = owed["next_node_idx"] - 1
        if "acks_are_durable" not in self.off:
            index = min(index, self.journal.durable)
        if index != self._sent_index:
            self._sent_index = index
            self.send(self._owed_to, owed | {"next_node_idx": index + 1})

    def votes_of(self, term: int) -> set[int]:
        if self._votes[0] != term:
            self._votes = (term, set())
        return self._votes[1]


Rule = Callable[[Guard, float, int, Message], Message | None]


# For every message.


def old_terms_are_answered(guard: Guard, now: float, member: int, message: Message) -> Message | None:
    """Paper 5.1: a message of an older term is refused and its sender told, so that a deposed leader learns it."""
    if message["term"] >= guard.core.term:
        return message
    if message["type"] != "stale":
        guard.send(member, {"type": "stale", "term": guard.core.term})
    return None


def newer_terms_are_adopted(guard: Guard, now: float, member: int, message: Message) -> Message | None:
    """Paper 5.1: whoever sees a newer term follows it. The library does so for two kinds of message only."""
    if message["term"] > guard.core.term and message["type"] not in ("request_vote", "append_entries"):
        if member in guard.journal.members:
            guard.core.adopt_term(message["term"])
        return None
    return message if message["type"] != "stale" else None


# For appends.


def snapshots_commit_nothing(guard: Guard, now: float, member: int, message: Message) -> Message | None:
    """An append that compares no logs proves nothing about this one: its commit index is not for it."""
    if "prevLogIdx" in message:
        return message
    message.pop("serialized", None)
    return message | {"commit_index": 0}


def matching_entries_stay(guard: Guard, now: float, member: int, message: Message) -> Message | None:
    """Paper 5.3: only entries that contradict the leader's are cut. The library cuts whatever follows prevLogIdx.

    What is already here is taken out of the message. When nothing is left of it, it is turned into one that compares
    this log's end, so that nothing is cut, and commits no further than what it did compare.
    """
    if "prevLogIdx" not in message:
        return message
    journal = guard.journal
    previous, term = message["prevLogIdx"], message["prevLogTerm"]
    entries = list(message["entries"])
    while previous < journal.base and entries:  # committed here long ago, so the leader has the same
        _, previous, term = entries.pop(0)
    if previous < journal.base:
        previous, term = journal.base, journal.term_at(journal.base)
    if journal.term_at(previous) != term:
        return message | {"prevLogIdx": previous, "prevLogTerm": term, "entries": entries}
    while entries and journal.term_at(entries[0][1]) == entries[0][2]:
        _, previous, term = entries.pop(0)
    compared = previous + len(entries)
    if not entries and previous < journal.last:
        commit = min(message["commit_index"], previous)
        previous, term = journal.last, journal.last_term
        message = message | {"commit_index": commit}
    return message | {"prevLogIdx": previous, "prevLogTerm": term, "entries": entries, "compared": compared}


# For votes.


def candidates_are_members(guard: Guard, now: float, member: int, message: Message) -> Message | None:
    """Only who is in this member's configuration can ask; who was removed is told so by the driver."""
    return message if member in guard.journal.members else None


def live_leaders_are_kept(guard: Guard, now: float, member: int, message: Message) -> Message | None:
    """Dissertation 4.2.3: while a leader is heard a candidate cannot raise the term, unless that leader sent it."""
    if message.get("transfer"):
        return message
    return None if guard.core.is_leader or now - guard.heard_at < ELECTION_MIN else message


def lost_votes_are_repeated(guard: Guard, now: float, member: int, message: Message) -> Message | None:
    """Paper 5.2: one vote a term, and the same candidate may ask for it again."""
    journal = guard.journal
    if message["term"] != guard.core.term or journal.vote != member or guard.core.is_leader:
        return message
    guard.send(member, {"type": "response_vote", "term": message["term"]})
    return None


def voters_elect(guard: Guard, now: float, member: int, message: Message) -> Message | None:
    """A vote counts when it comes from a voter of this member's configuration."""
    return message if member in guard.journal.members.voters else None


def votes_count_once(guard: Guard, now: float, member: int, message: Message) -> Message | None:
    """The library counts messages, not members."""
    votes = guard.votes_of(message["term"])
    if member in votes:
        return None
    votes.add(member)
    return message


# For answers to appends.


def followers_are_members(guard: Guard, now: float, member: int, message: Message) -> Message | None:
    """The library fails with KeyError on the answer of one that was removed."""
    return message if member in guard.journal.members else None


def answers_are_of_this_log(guard: Guard, now: float, member: int, message: Message) -> Message | None:
    """Nobody can hold more of this leader's log than the leader."""
    return message if message["next_node_idx"] - 1 <= guard.journal.last else None


def learners_begin_anew(guard: Guard, now: float, member: int, message: Message) -> Message | None:
    """A learner whose store was lost refuses what it had acknowledged: that is taken back, or it would never be sent
    again. It counts for no commit; a voter in its place was demoted first (DESIGN.md, "A member that lost its log")."""
    if message["reset"] and member in guard.journal.members.learners:
        guard.core.take_back(member, message["next_node_idx"] - 1)
    return message


def next_never_back_by_ack(guard: Guard, member: int, message: Message, before: int) -> None:
    """Under pipelining an acknowledgement is about the past: what is in flight is not sent again."""
    if message["success"]:
        guard.core.set_next_ahead(member, max(before, guard.core.match(member) + 1))


def next_never_up_by_reset(guard: Guard, member: int, message: Message, before: int) -> None:
    """Of two refusals in flight the second may name a higher index; following it the bad tail is never reached."""
    if message["reset"]:
        guard.core.set_next(member, max(guard.core.match(member) + 1, min(before, message["next_node_idx"])))


_ALL: tuple[Rule, ...] = (old_terms_are_answered, newer_terms_are_adopted)
_RULES: dict[str, tuple[Rule, ...]] = {
    "append_entries": (snapshots_commit_nothing, matching_entries_stay),
    "request_vote": (candidates_are_members, live_leaders_are_kept, lost_votes_are_repeated),
    "response_vote": (voters_elect, votes_count_once),
    "next_node_idx": (followers_are_members, answers_are_of_this_log, learners_begin_anew),
}

_AFTER_ANSWERS = (next_never_back_by_ack, next_never_up_by_reset)
NAMES = tuple(rule.__name__ for rules in (_ALL, *_RULES.values(), _AFTER_ANSWERS) for rule in rules)
"""All rules, as `off` names them."""
