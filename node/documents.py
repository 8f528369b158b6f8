"""Typed access to the replicated documents: tables of records, views of a snapshot, and drafts of transactions.

Owns how records become bytes and back, and the bookkeeping of names, references and claims (DESIGN.md 3.2);
refuses every rule about what may be written (`node/*/rules.py` has them)."""

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar, get_args, get_origin

import msgspec

from lxdnode.node.errors import AlreadyExists, NotFound
from lxdnode.raft.state import Document, State
from lxdnode.raft.transaction import Delete, Event, Expect, ExpectGroup, Put, Transaction

PROJECT = "default"
"""The project of every object: the API level has no others, the keys have room for them."""

R = TypeVar("R", bound="Record")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What a document holds: known fields with defaults, so that documents of older versions decode."""


class Name(Record, frozen=True):
    """`(names, PROJECT/KIND, NAME)`: the id of the object that bears the name."""

    id: str


class Mark(Record, frozen=True):
    """A document that says all by its key: a reference, or a claim with its `owner`."""

    owner: str = ""


def overlay(record: type[msgspec.Struct], old: Any, new: dict[str, Any]) -> dict[str, Any]:
    """The map of a record laid over the map that is stored, keeping the fields that this version does not know
    (DESIGN.md 3.3), in nested records and in maps of records too. A map of free keys (`config`) is replaced whole,
    since a key that is gone was deleted."""
    if not isinstance(old, dict):
        return new
    merged = {**old, **new}
    for field in msgspec.structs.fields(record):
        name, kind = field.encode_name, field.type
        before, after = old.get(name), new.get(name)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(after, dict):
            merged[name] = overlay(kind, before, after)
        elif (inner := _record_of_map(kind)) and isinstance(before, dict) and isinstance(after, dict):
            merged[name] = {key: overlay(inner, before.get(key), value) for key, value in after.items()}
    return merged


def _record_of_map(kind: Any) -> type[msgspec.Struct] | None:
    """The record type of `dict[str, SomeRecord]`, or None for any other type."""
    arguments = get_args(kind) if get_origin(kind) is dict else ()
    inner = arguments[1] if len(arguments) == 2 else None
    return inner if isinstance(inner, type) and issubclass(inner, msgspec.Struct) else None


class Table(Generic[R]):
    """The documents of one table, decoded as `record`."""

    _CACHE_LEAST = 1024

    def __init__(self, name: str, record: type[R]) -> None:
        self.name = name
        self.record = record
        self._decoder = msgspec.msgpack.Decoder(record)
        self._cache: dict[tuple[str, str], tuple[Document, R]] = {}
        self._cache_limit = self._CACHE_LEAST

    def decode(self, state: State, group: str, name: str, document: Document) -> R:
        """The record of a document of a state, decoded once: the cache goes by the document itself, since two stores
        (before and after a join) can have one revision of a key with different values."""
        cached = self._cache.get((group, name))
        if cached is not None and cached[0] is document:
            return cached[1]
        record = self._decoder.decode(document.value)
        if len(self._cache) >= self._cache_limit:
            self._forget_old(state)
        self._cache[group, name] = (document, record)
        return record

    def _forget_old(self, state: State) -> None:
        """Keeps what a state has as it was decoded. As often as the cache has doubled since: cheap in the mean."""
        cached = self._cache.items()
        self._cache = {key: found for key, found in cached if state.get(self.name, *key) is found[0]}
        self._cache_limit = max(self._CACHE_LEAST, 2 * len(self._cache))

    def encode(self, record: R, old: Document | None = None) -> bytes:
        """The bytes of a record; fields of `old` that this version does not know are kept."""
        known: dict[str, Any] = msgspec.to_builtins(record)
        if old is not None:
            known = overlay(self.record, msgspec.msgpack.decode(old.value), known)
        return msgspec.msgpack.encode(known)


NAMES = Table("names", Name)
REFS = Table("refs", Mark)
CLAIMS = Table("claims", Mark)


def names_group(kind: str) -> str:
    """The group of the names of one kind of object."""
    return f"{PROJECT}/{kind}"


class View:
    """A snapshot of the documents, read as records. Cheap: it holds a reference to the state and nothing else."""

    def __init__(self, state: State) -> None:
        self.state = state

    def document(self, table: str, group: str, name: str) -> Document | None:
        """The raw document under a key."""
        return self.state.get(table, group, name)

    def documents(self, table: str, group: str) -> Mapping[str, Document]:
        """All raw documents of a group, by name."""
        return self.state.group(table, group)

    def get(self, table: Table[R], id: str, group: str = "") -> R | None:
        """The record under an id, or None."""
        document = self.document(table.name, group, id)
        return None if document is None else table.decode(self.state, group, id, document)

    def revision(self, table: Table[R], id: str, group: str = "") -> int:
        """The log index that wrote the record under an id; 0 when there is none."""
        document = self.document(table.name, group, id)
        return 0 if document is None else document.revision

    def all(self, table: Table[R], group: str = "") -> Iterator[tuple[str, R]]:
        """(id, record) of every document of a group, sorted by id."""
        documents = self.documents(table.name, group)
        for id in sorted(documents):
            yield id, table.decode(self.state, group, id, documents[id])

    def find(self, kind: str, name: str) -> str | None:
        """The id of the object that bears a name, or None."""
        record = self.get(NAMES, name, names_group(kind))
        return None if record is None else record.id

    def named(self, table: Table[R], kind: str, name: str, missing: str = "not found") -> tuple[str, R]:
        """(id, record) of the object that bears a name. NotFound with the words `missing` when there is none."""
        id = self.find(kind, name)
        record = None if id is None else self.get(table, id)
        if id is None or record is None:
            raise NotFound(missing)
        return id, record

    def users(self, target: str) -> list[str]:
        """Who refers to `target` (`profile:ID`), as `container:ID` and the like, sorted."""
        return sorted(self.documents(REFS.name, target))


class Draft(View):
    """A transaction that is being made: what it reads becomes what it expects, what it puts is written.

    Reads see the snapshot with the draft's own writes laid over it. `peek` reads without expecting, for what
    may change meanwhile without harm (counts for a placement). `level` is what it needs of those who apply it."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.peek = View(state)
        self.level = state.level
        self._expects: dict[tuple[str, ...], Expect | ExpectGroup] = {}
        self._writes: dict[tuple[str, str, str], bytes | None] = {}
        self._events: list[Event] = []

    def document(self, table: str, group: str, name: str) -> Document | None:
        found = self.state.get(table, group, name)
        revision = found.revision if found else 0
        self._expects.setdefault((table, group, name), Expect(table, group, name, revision))
        if (table, group, name) in self._writes:
            value = self._writes[table, group, name]
            return None if value is None else Document(value, 0)
        return found

    def documents(self, table: str, group: str) -> Mapping[str, Document]:
        revision = self.state.group_revision(table, group)
        self._expects.setdefault((table, group), ExpectGroup(table, group, revision))
        own = {key[2]: value for key, value in self._writes.items() if key[:2] == (table, group)}
        found = {name: document for name, document in self.state.group(table, group).items() if name not in own}
        return found | {name: Document(value, 0) for name, value in own.items() if value is not None}

    def put(self, table: Table[R], id: str, record: R, group: str = "") -> None:
        """Writes a record; fields that only a newer version knows are kept."""
        self._writes[table.name, group, id] = table.encode(record, self.document(table.name, group, id))

    def delete(self, table: Table[R], id: str, group: str = "") -> None:
        """Deletes a document, which must not change meanwhile."""
        self.document(table.name, group, id)
        self._writes[table.name, group, id] = None

    def name(self, kind: str, name: str, id: str, taken: str = "already exists") -> None:
        """Gives an object its name. AlreadyExists with the words `taken` when another bears it."""
        if self.find(kind, name) is not None:
            raise AlreadyExists(taken)
        self.put(NAMES, name, Name(id=id), names_group(kind))

    def unname(self, kind: str, name: str) -> None:
        """Frees a name."""
        self.delete(NAMES, name, names_group(kind))

    def refer(self, target: str, user: str) -> None:
        """Records that `user` (`container:ID`) uses `target` (`profile:ID`)."""
        self.put(REFS, user, Mark(), target)

    def unrefer(self, target: str, user: str) -> None:
        """Records that `user` no longer uses `target`."""
        self.delete(REFS, user, target)

    def claim(self, group: str, resource: str, owner: str) -> None:
        """Claims a resource that must be unique (`ipv4:NET`, `10.0.0.5`). AlreadyExists when another has it."""
        held = self.get(CLAIMS, resource, group)
        if held is not None and held.owner != owner:
            raise AlreadyExists(f"{group}/{resource} is in use by {held.owner}")
        self.put(CLAIMS, resource, Mark(owner=owner), group)

    def release(self, group: str, resource: str) -> None:
        """Gives a claimed resource back."""
        self.delete(CLAIMS, resource, group)

    def event(self, action: str, source: str, **context: str) -> None:
        """Adds a lifecycle event, which every member emits to its listeners when the transaction is applied."""
        self._events.append(Event(action, source, context))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not self._writes and not self._events and self.level == self.state.level

    def transaction(self, author: str, request: str, member: int, id: str | None = None) -> Transaction:
        """The transaction that commits this draft. `author`: who asked; `request`: method and path, for the history."""
        return Transaction(
            id=id or str(uuid.uuid4()),
            born=self.state.index,
            level=self.level,
            author=author,
            at=time.time(),
            member=member,
            request=request,
            expects=tuple(self._expects.values()),
            writes=tuple(_write(key, value) for key, value in self._writes.items()),
            events=tuple(self._events),
        )


def _write(key: tuple[str, str, str], value: bytes | None) -> Put | Delete:
    return Delete(*key) if value is None else Put(*key, value)
