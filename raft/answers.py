"""The outcomes of the transactions of the last indexes, by transaction id, in some fifty bytes each.

As a persistent map from id to outcome they were 300 bytes each, of up to a million. Here a persistent map has buckets,
and a bucket is one string of records in the order of their indexes. Who asks says from which index on answers count:
older ones leave a bucket when something is added to it. Owns no rule about when that is."""

import hashlib
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Self

import msgspec
from immutables import Map

from lxdnode.raft.transaction import Conflict

Answer = int | Conflict  # an int n is Committed(n)
AnswerRow = tuple[int, list[tuple[str, Answer]]]  # an index, and the answers that were given there by transaction id

_KEY = 36  # bytes of a uuid as text
_RECORD = _KEY + 8  # and the index
_BUCKETS = 4096
_GATHERED = 16_384  # answers that are put in order at once
_PAUSE = 64  # buckets that are looked through in a millisecond


class Answers(msgspec.Struct, frozen=True):
    """`details` has what a record cannot say: an answer that is not Committed(its index), an id that is no uuid."""

    buckets: Map[int, bytes] = msgspec.field(default_factory=Map)
    details: Map[bytes, tuple[str, Answer]] = msgspec.field(default_factory=Map)

    @classmethod
    def of(cls, rows: Iterable[AnswerRow]) -> Self:
        """Of rows in the order of their indexes."""
        held: dict[int, list[bytes]] = {}
        details: dict[bytes, tuple[str, Answer]] = {}
        for index, answers in rows:
            for identity, answer in answers:
                key = _key(identity)
                held.setdefault(_bucket(key), []).append(_record(key, index))
                if _needs_details(key, identity, index, answer):
                    details[key] = (identity, answer)
        return cls(Map({bucket: b"".join(records) for bucket, records in held.items()}), Map(details))

    def get(self, identity: str, first: int) -> Answer | None:
        """The answer given to `identity` at the index `first` or later."""
        key = _key(identity)
        records = self.buckets.get(_bucket(key), b"")
        place = records.find(key)
        while place % _RECORD:  # -1, or a piece of two records
            if place < 0:
                return None
            place = records.find(key, place + 1)
        index = _index(records, place)
        if index < first:
            return None
        return self.details[key][1] if key in self.details else index

    def add(self, identity: str, index: int, answer: Answer, first: int) -> Self:
        """With an answer given at `index`, which none is above; what was given before `first` may be forgotten."""
        key = _key(identity)
        bucket = _bucket(key)
        records, details = self.buckets.get(bucket, b""), self.details
        if records and _index(records, 0) < first:
            kept = _first_place(records, first)
            for gone in _keys(records[:kept]):
                details = details.delete(gone) if gone in details else details
            records = records[kept:]
        if _needs_details(key, identity, index, answer):
            details = details.set(key, (identity, answer))
        return type(self)(self.buckets.set(bucket, records + _record(key, index)), details)

    def rows(self, first: int, last: int) -> Iterator[AnswerRow | None]:
        """What was answered at the indexes from `first` to `last`, in their order. It gives None now and then, so that
        there is no more than a millisecond of work from one to the next."""
        held = sum(map(len, self.buckets.values())) // _RECORD
        window = max((last + 1 - first) * _GATHERED // max(held, _GATHERED), 1)
        for start in range(first, last + 1, window):
            end = min(start + window, last + 1)
            found: dict[int, list[tuple[str, Answer]]] = {}
            for number, records in enumerate(self.buckets.values()):
                for place in range(_first_place(records, start), _first_place(records, end), _RECORD):
                    index = _index(records, place)
                    key = records[place : place + _KEY]
                    found.setdefault(index, []).append(self.details.get(key) or (key.decode(), index))
                if number % _PAUSE == 0:
                    yield None
            for index in sorted(found):
                yield index, found[index]


def _key(identity: str) -> bytes:
    key = identity.encode()
    return key if len(key) == _KEY else hashlib.sha256(key).hexdigest()[:_KEY].encode()


def _bucket(key: bytes) -> int:
    return zlib.crc32(key) % _BUCKETS


def _record(key: bytes, index: int) -> bytes:
    return key + index.to_bytes(8, "big")


def _needs_details(key: bytes, identity: str, index: int, answer: Answer) -> bool:
    return answer != index or key != identity.encode()


def _index(records: bytes, place: int) -> int:
    return int.from_bytes(records[place + _KEY : place + _RECORD], "big")


def _first_place(records: bytes, index: int) -> int:
    """Where the records of `index` and later ones begin."""
    places = range(0, len(records), _RECORD)
    return bisect_left(places, index, key=lambda place: _index(records, place)) * _RECORD


def _keys(records: bytes) -> list[bytes]:
    return [records[place : place + _KEY] for place in range(0, len(records), _RECORD)]
