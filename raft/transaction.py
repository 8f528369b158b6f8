"""What one change of the store is: what it expects, what it writes, which events it means, and how it can end.

Owns the encoding of transactions, which journals keep for ever; refuses to know what the documents mean."""

from typing import Any

import msgspec

# DESIGN 3.2: a larger transaction is refused before it is proposed; larger work is a plan of several.
TRANSACTION_LIMIT = 512 * 1024

# Transactions, entries and snapshots carry the level of format and rules that they need (DESIGN 3.3).
LEVEL = 1


class Expect(msgspec.Struct, frozen=True, tag="document", tag_field="kind"):
    """The document was last written at log index `revision`; 0: it does not exist."""

    table: str
    group: str
    name: str
    revision: int


class ExpectGroup(msgspec.Struct, frozen=True, tag="group", tag_field="kind"):
    """Nothing in the group was put or deleted since log index `revision`; 0: it was never touched."""

    table: str
    group: str
    revision: int


class Put(msgspec.Struct, frozen=True, tag="put", tag_field="kind"):
    table: str
    group: str
    name: str
    value: bytes


class Delete(msgspec.Struct, frozen=True, tag="delete", tag_field="kind"):
    table: str
    group: str
    name: str


class Event(msgspec.Struct, frozen=True):
    """A lifecycle event that the change means: every member emits it to its own listeners at apply."""

    action: str
    source: str
    context: dict[str, Any] = {}


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """One change. All that is not a function of the state is fixed here, before the log.

    `id` is a uuid4 as text: the same id is applied once, however often it is proposed. `born` is the index that was
    applied when it was made, `level` what it needs of those who apply it (at most the cluster's; more raises it).
    `author`, `at` (seconds since the epoch), `member` and `request` are informative: no rule reads them.
    """

    id: str
    born: int
    level: int
    author: str
    at: float
    member: int
    request: str
    expects: tuple[Expect | ExpectGroup, ...] = ()
    writes: tuple[Put | Delete, ...] = ()
    events: tuple[Event, ...] = ()


class Committed(msgspec.Struct, frozen=True, tag="committed", tag_field="kind"):
    """It was applied at `index`, the revision of all that it wrote."""

    index: int


class Conflict(msgspec.Struct, frozen=True, tag="conflict", tag_field="kind"):
    """At `index` the state was not as expected: `expect` is the first that failed. Nothing was written."""

    index: int
    expect: Expect | ExpectGroup


class Expired(msgspec.Struct, frozen=True, tag="expired", tag_field="kind"):
    """At `index` its `born` was too old to know whether it had been applied before. Nothing was written now."""

    index: int


Outcome = Committed | Conflict | Expired

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Transaction)


def encode(transaction: Transaction) -> bytes:
    return _encoder.encode(transaction)


def decode(data: bytes) -> Transaction:
    """Raises msgspec.DecodeError for what is no transaction; fields from the future are passed over."""
    return _decoder.decode(data)
