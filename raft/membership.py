"""Who is in the cluster, read from the documents of table `members`: the Raft configuration follows from them.

Owns what phases and votes mean for Raft and which change comes next; refuses to write documents: the node does."""

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from lxdnode.raft.entry import Members
from lxdnode.raft.state import State
from lxdnode.raft.transaction import Transaction

TABLE = "members"
RECEIVING = ("joining", "learner", "member", "leaving")
VOTING = ("member", "leaving")


class Member(msgspec.Struct, frozen=True):
    """What raft reads of a member document: msgpack with `phase` and `voter`; the other fields are the node's."""

    phase: str = "member"
    voter: bool = False


_decoder = msgspec.msgpack.Decoder(Member)


def members_in(state: State) -> dict[int, Member]:
    """All member documents, the removed included, by number."""
    return {int(name): _decoder.decode(document.value) for name, document in state.group(TABLE, "").items()}


def configuration(state: State) -> Members:
    """Who votes and who receives the log. `voter` means nothing before a joiner has become a member."""
    documents = members_in(state)
    voters = [number for number, member in documents.items() if member.voter and member.phase in VOTING]
    receivers = [number for number, member in documents.items() if member.phase in RECEIVING]
    return Members(tuple(sorted(voters)), tuple(sorted(set(receivers) - set(voters))))


def concerns_members(transaction: Transaction) -> bool:
    return any(write.table == TABLE for write in transaction.writes)


def refusal(old: Members, new: Members, leader: int) -> str | None:
    """Why the leader must not append this change; None: it may. Majorities must overlap (paper 6)."""
    if not new.voters:
        return "a cluster needs a voter"
    if len(set(old.voters) ^ set(new.voters)) > 1:
        return "the vote of one member can be changed at a time"
    if leader not in new.voters:
        return "the leader cannot give up its own vote: it hands over the lead first"
    gone = old.all - new.all
    if gone & set(old.voters):
        return "a voter must be demoted before it is removed"
    return None


@dataclass(frozen=True, slots=True)
class VoteChange:
    """Put `voter` into the document of `member`, expecting its revision."""

    member: int
    voter: bool


@dataclass(frozen=True, slots=True)
class HandOver:
    """The leader is the one to lose its vote: another must lead first (`Log.hand_over`)."""


def plan(
    state: State, max_voters: int, reachable: Collection[int], caught_up: Collection[int], leader: int
) -> VoteChange | HandOver | None:
    """The next single step towards the wanted voters, for the leader to make; None when they are as they should be.

    Wanted is the largest odd number, up to `max_voters`, that there are voters and reachable spares for, with those
    that fetch a lost store and will be spares again (until then they are like voters that are away): so an even number
    is only passed through. Voters that leave give up their vote once they are replaced; one that is away is replaced
    by a reachable spare, which is promoted before
    the absent one is demoted. `reachable` are those that were heard lately, with `leader`; a spare must be among
    `caught_up` (`Log.caught_up_members()`) as well, since a new voter that is far behind would keep every commit
    waiting.
    """
    documents = members_in(state)
    voters = [number for number, member in sorted(documents.items()) if member.voter and member.phase in VOTING]
    leaving = [number for number in voters if documents[number].phase == "leaving"]
    kept = [number for number in voters if number not in leaving]
    spares = [
        number
        for number, member in sorted(documents.items())
        if member.phase == "member" and number not in voters and number in reachable and number in caught_up
    ]
    returning = [number for number, member in documents.items() if member.phase == "learner"]
    wanted = min(max_voters, len(kept) + len(spares) + len(returning))
    wanted -= 1 - wanted % 2
    away = [number for number in kept if number not in reachable]
    if spares and (len(kept) < wanted or (away and len(kept) == wanted)):
        return VoteChange(spares[0], voter=True)
    surplus = away + [number for number in reversed(kept) if number not in away and number != leader]
    demoted = leaving if leaving and kept else surplus if len(kept) > max(wanted, 1) else []
    if not demoted:
        return None
    return HandOver() if demoted[0] == leader else VoteChange(demoted[0], voter=False)
