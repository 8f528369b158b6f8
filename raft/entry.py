"""A log entry: the transactions that were waiting, or a change of the cluster's members with the one that makes it.

Owns the encoding, which journals keep for ever; the first byte is pysyncobj's command type."""

from collections.abc import Sequence

import msgspec

from lxdnode.raft.transaction import LEVEL, Transaction

ENTRY_LIMIT = 1024 * 1024

_REGULAR = b"\x00"
NO_OP = b"\x01"  # pysyncobj appends it when a leader is elected
_MEMBERS = b"\x04"  # ours: beyond the types that pysyncobj knows, so that members are found without decoding all


class Members(msgspec.Struct, frozen=True):
    """The Raft configuration: who votes, and who receives the log without a vote. Numbers of members, ascending."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()

    def __contains__(self, member: object) -> bool:
        return member in self.voters or member in self.learners

    @property
    def all(self) -> frozenset[int]:
        return frozenset(self.voters) | frozenset(self.learners)

    @property
    def quorum(self) -> int:
        return len(self.voters) // 2 + 1


class Entry(msgspec.Struct, frozen=True):
    level: int
    transactions: tuple[Transaction, ...]
    members: Members | None = None


class _Packed(msgspec.Struct):
    level: int
    transactions: list[msgspec.Raw]
    members: Members | None = None


class _Level(msgspec.Struct):
    level: int


class _MembersOnly(msgspec.Struct):
    members: Members


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)
_level_decoder = msgspec.msgpack.Decoder(_Level)
_members_decoder = msgspec.msgpack.Decoder(_MembersOnly)
_EMPTY = Entry(0, ())


def pack(transactions: Sequence[bytes], level: int, members: Members | None = None) -> bytes:
    """An entry of encoded transactions; `level` is the highest that one of them needs."""
    packed = _Packed(level, [msgspec.Raw(data) for data in transactions], members)
    return (_REGULAR if members is None else _MEMBERS) + _encoder.encode(packed)


def level_of(command: bytes) -> int:
    """The level needed to apply the entry: readable at every level."""
    return 0 if command[:1] == NO_OP else _level_decoder.decode(command[1:]).level


def members_of(command: bytes) -> Members | None:
    """The members from this entry on, when it changes them."""
    return _members_decoder.decode(command[1:]).members if command[:1] == _MEMBERS else None


def unpack(command: bytes) -> Entry:
    """The entry; call it for a level that this program knows. A no-op has no transactions."""
    return _EMPTY if command[:1] == NO_OP else _decoder.decode(command[1:])


__all__ = ["ENTRY_LIMIT", "LEVEL", "NO_OP", "Entry", "Members", "level_of", "members_of", "pack", "unpack"]
