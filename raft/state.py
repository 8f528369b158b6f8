"""The documents at one log index, as persistent maps: whoever holds a State has a snapshot that nobody changes.

Owns reading, the revisions and the digest; refuses to judge a transaction, which is the machine's."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Self

import msgspec
from immutables import Map
from msgspec.structs import replace

from lxdnode.raft.answers import Answer, Answers
from lxdnode.raft.transaction import Committed, Outcome

# Answers of transactions are kept for so many log indexes: who repeats one later gets Expired (DESIGN 3.1).
ANSWERS_KEPT = 65_536


class Document(msgspec.Struct, frozen=True):
    """A replicated value and the log index that wrote it."""

    value: bytes
    revision: int


class Group(msgspec.Struct, frozen=True):
    """The documents of a group, and the log index of the last put or delete among them."""

    documents: Map[str, Document]
    revision: int


_NOTHING: Map[str, Document] = Map()


class State(msgspec.Struct, frozen=True):
    """All documents at `index`, and `level`, the highest that a committed transaction needed.

    `answers` are the outcomes of the transactions of the last ANSWERS_KEPT indexes.
    """

    index: int = 0
    level: int = 1
    tables: Map[str, Map[str, Group]] = msgspec.field(default_factory=Map)
    answers: Answers = msgspec.field(default_factory=Answers)

    def get(self, table: str, group: str, name: str) -> Document | None:
        return self.group(table, group).get(name)

    def group(self, table: str, group: str) -> Mapping[str, Document]:
        """All documents of a group by name; empty for one that does not exist."""
        found = self._group(table, group)
        return found.documents if found else _NOTHING

    def groups(self, table: str) -> Iterable[str]:
        """The groups of a table that hold documents, in no order."""
        return [name for name, group in self.tables.get(table, Map()).items() if group.documents]

    def group_revision(self, table: str, group: str) -> int:
        """The index of the last put or delete in the group; 0 = never touched."""
        found = self._group(table, group)
        return found.revision if found else 0

    def _group(self, table: str, group: str) -> Group | None:
        groups = self.tables.get(table)
        return groups.get(group) if groups is not None else None

    def put(self, index: int, table: str, group: str, name: str, value: bytes) -> Self:
        documents = self._group_documents(table, group)
        return self._with(table, group, Group(documents.set(name, Document(value, index)), index))

    def delete(self, index: int, table: str, group: str, name: str) -> Self:
        documents = self._group_documents(table, group)
        return self._with(table, group, Group(documents.delete(name) if name in documents else documents, index))

    def _group_documents(self, table: str, group: str) -> Map[str, Document]:
        found = self._group(table, group)
        return found.documents if found else _NOTHING

    def _with(self, table: str, name: str, group: Group) -> Self:
        groups: Map[str, Group] = self.tables.get(table, Map())
        return replace(self, tables=self.tables.set(table, groups.set(name, group)))

    @property
    def first_answered(self) -> int:
        """The first index whose answers are known still."""
        return max(self.index - ANSWERS_KEPT + 1, 0)

    def answer(self, identity: str) -> Outcome | None:
        """What the transaction of this id was answered; None for one that is not known, or no more."""
        answer = self.answers.get(identity, self.first_answered)
        return None if answer is None else outcome_of(answer)

    def sweep(self, before: int) -> Self:
        """Forget empty groups untouched since `before`: whoever could still expect their revision is Expired."""
        tables = {
            table: Map({name: group for name, group in groups.items() if group.documents or group.revision >= before})
            for table, groups in self.tables.items()
        }
        return replace(self, tables=Map(tables))

    def digest(self) -> str:
        """A sha256 over everything that a later transaction could depend on: equal on all members at one index."""
        rows = [row for row in self.answers.rows(self.first_answered, self.index) if row is not None]
        content = {
            "index": self.index,
            "level": self.level,
            "tables": {
                table: {
                    name: [group.revision, {key: [d.value, d.revision] for key, d in group.documents.items()}]
                    for name, group in groups.items()
                }
                for table, groups in self.tables.items()
            },
            "answers": {identity: answer for _, answers in rows for identity, answer in answers},
            "answered": [[index, sorted(identity for identity, _ in answers)] for index, answers in rows],
        }
        return hashlib.sha256(msgspec.msgpack.encode(content, order="deterministic")).hexdigest()


def outcome_of(answer: Answer) -> Outcome:
    """The recorded answer as the caller sees it."""
    return Committed(answer) if isinstance(answer, int) else answer
