"""What a person reads of the history: a row for each change, with its documents before and after.

Owns the rows, which of them a question selects, and what is never shown; refuses to know where the files are."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, pairwise
from typing import Any

import msgspec

from lxdnode.node.documents import NAMES, View, names_group
from lxdnode.node.errors import Invalid
from lxdnode.node.server.keys import SECRETS
from lxdnode.node.server.records import SETTINGS
from lxdnode.raft import archive
from lxdnode.raft.archive import Archived, Chunk
from lxdnode.raft.disk import Disk
from lxdnode.raft.transaction import Put, Transaction

HIDDEN = "(hidden)"
LARGE = 16 * 1024
"""Bytes of a document above which only its size is shown."""
MOST = 1000
"""Rows of one answer."""
_DIGITS = 18
_KINDS = {"storage-pools": "pool", "members": "member"}


class Alteration(msgspec.Struct, frozen=True):
    """A document, `table/group/name`, as it was and as it is now; null where there was or is none."""

    key: str
    before: Any
    after: Any


class Entry(msgspec.Struct, frozen=True):
    """One change: the index of the log that brought it, when (RFC 3339), who asked which member for what, the
    documents that it wrote and the lifecycle events that it meant. Several can have one index; `place` counts them."""

    index: int
    place: int
    at: str
    author: str
    member: int
    request: str
    changes: list[Alteration]
    events: list[dict[str, Any]]


class Found(msgspec.Struct, frozen=True):
    """Rows in the order of their indexes, and the parts of the log between them that are not known here: behind the
    first index of each pair, up to the second."""

    entries: list[Entry]
    gaps: list[tuple[int, int]]


@dataclass(frozen=True)
class Question:
    """Which rows: behind `since`, up to `until` (indexes or seconds since the epoch), of one object or author.

    `forward`: the first `limit` of them, all of one index or none; else the last `limit`. `ids` are those that the
    object's name stands for now. Times are exact, indexes are behind the one given."""

    since: int = 0
    until: int | None = None
    since_at: float = 0.0
    until_at: float = float("inf")
    object: str = ""
    author: str = ""
    limit: int = MOST
    forward: bool = False
    ids: frozenset[str] = frozenset()


def ask(values: Mapping[str, str], view: View) -> Question:
    """The question that parameters ask: since, until (INDEX or time), object (a URL, `table/group/name` or an id),
    author, limit. With `since` the first rows behind it are answered, else the last. Invalid with what is wrong."""
    since, since_at = _moment("since", values.get("since", ""))
    until, until_at = _moment("until", values.get("until", ""))
    object = values.get("object", "").rstrip("/")
    limit = values.get("limit", "") or str(MOST)
    if not limit.isdecimal() or not 0 < int(limit) <= MOST:
        raise Invalid(f"limit '{limit}' is not a number from 1 to {MOST}")
    return Question(
        since or 0,
        until,
        0.0 if since_at is None else since_at,
        float("inf") if until_at is None else until_at,
        object,
        values.get("author", ""),
        int(limit),
        bool(values.get("since")),
        frozenset(filter(None, [view.find(_kind(object), object.rpartition("/")[2])])),
    )


def _moment(name: str, text: str) -> tuple[int | None, float | None]:
    """An index, or a time; without a zone it is UTC."""
    if not text:
        return None, None
    if text.isdecimal() and len(text) <= _DIGITS:
        return int(text), None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{name} '{text}' is neither an index nor a time such as 2026-01-31T12:00:00Z") from None
    return None, (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def find(disk: Disk, question: Question, more: Iterable[list[Chunk]] = ()) -> Found:
    """The rows of the history on a disk, and behind it of `more` chunks, that a question asks for."""
    seen: list[Chunk] = []

    def looked_at(segments: Iterable[list[Chunk]]) -> Iterator[list[Chunk]]:
        for chunks in segments:
            seen.extend(msgspec.structs.replace(chunk, entries=()) for chunk in chunks)
            yield chunks

    if question.forward:
        rows = _first(looked_at(chain(archive.forwards(disk, question.since), more)), question)
        begin = max(question.since, archive.BEGINNING)
    else:
        rows = _last(looked_at(chain(more, archive.backwards(disk))), question)
        begin = rows[0].index if rows else archive.BEGINNING
    end = rows[-1].index if rows else max((chunk.index for chunk in seen), default=begin)
    seen.sort(key=lambda chunk: chunk.after)
    gaps = [(begin, seen[0].after)] if seen and question.forward else []
    gaps += [(one.index, other.after) for one, other in pairwise(seen)]
    return Found(rows, [(max(a, begin), b) for a, b in gaps if a < b and b > begin and a < end])


def _first(segments: Iterable[list[Chunk]], question: Question) -> list[Entry]:
    """The first rows, of segments from the oldest on."""
    found: list[Entry] = []
    for chunks in segments:
        for one in _candidates(chunks, question):
            found += _rows(one, question)
            if len(found) >= question.limit:
                return found
    return found


def _last(segments: Iterable[list[Chunk]], question: Question) -> list[Entry]:
    """The last rows, of segments from the newest on; in the order in which they came to be."""
    found = deque[Entry]()
    for chunks in segments:
        for one in reversed(list(_candidates(chunks, question))):
            found.extendleft(reversed(_rows(one, question)))
            if len(found) >= question.limit:
                return list(found)[-question.limit :]
    return list(found)


def _candidates(chunks: Iterable[Chunk], question: Question) -> Iterator[Archived]:
    for chunk in chunks:
        if chunk.at < question.since_at:
            continue
        for one in chunk.entries:
            if one.index > question.since and (question.until is None or one.index <= question.until):
                yield one


def _rows(one: Archived, question: Question) -> list[Entry]:
    return [
        render(one.index, place, transaction, before)
        for place, (transaction, before) in enumerate(one.transactions())
        if question.since_at <= transaction.at <= question.until_at
        and question.author in ("", transaction.author)
        and (not question.object or _concerns(transaction, question))
    ]


def _concerns(transaction: Transaction, question: Question) -> bool:
    object = question.object
    if any(write.name in question.ids or object in (_key(write), write.name) for write in transaction.writes):
        return True
    if not object.startswith("/"):
        return False
    paths = [transaction.request.partition(" ")[2], *(event.source for event in transaction.events)]
    named = names_group(_kind(object)), object.rpartition("/")[2]
    return any(f"{path}/".startswith(f"{object}/") for path in paths) or any(
        write.table == NAMES.name and (write.group, write.name) == named for write in transaction.writes
    )


def _kind(url: str) -> str:
    """The kind of names (`documents.py`) to which the last part of a URL belongs."""
    collection = url.rpartition("/")[0].rpartition("/")[2]
    return _KINDS.get(collection, collection.removesuffix("s"))


def _key(write: Any) -> str:
    return f"{write.table}/{write.group}/{write.name}"


def render(index: int, place: int, transaction: Transaction, before: Iterable[bytes | None]) -> Entry:
    """A transaction that was carried out, as a row."""
    return Entry(
        index,
        place,
        datetime.fromtimestamp(transaction.at, UTC).isoformat(),
        transaction.author,
        transaction.member,
        transaction.request,
        [
            Alteration(_key(write), _shown(write, old), _shown(write, write.value if isinstance(write, Put) else None))
            for write, old in zip(transaction.writes, before, strict=True)
        ],
        [{"action": one.action, "source": one.source, "context": one.context} for one in transaction.events],
    )


def _shown(write: Any, value: bytes | None) -> Any:
    """A document as a person may see it."""
    if value is None:
        return None
    if len(value) > LARGE:
        return f"({len(value)} bytes)"
    return readable(write.table, write.name, value)


def readable(table: str, name: str, value: bytes) -> Any:
    """What a document holds, without the secrets of settings and the cluster's private key."""
    if table == SETTINGS.name and name in SECRETS:
        return HIDDEN
    decoded = msgspec.msgpack.decode(value)
    if isinstance(decoded, dict) and decoded.get("private_key"):
        decoded["private_key"] = HIDDEN
    return decoded
