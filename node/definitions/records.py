"""What is replicated of a definition: the shared configuration, a phase, and a part per member."""

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from lxdnode.drivers.config.key import Table as Keys
from lxdnode.node.documents import Record, Table

Phase = Literal["defined", "creating", "created", "deleting"]
"""defined: LXD's two-step way, members were named but nothing is made. creating: every member makes its part, and one
that fails turns it into deleting. created: members that were away make theirs when they are back. deleting: its name
is free, and it goes when the last member has removed its part."""
PartState = Literal["pending", "created", "errored"]


class Part(Record, frozen=True):
    """One member's part. `config`: its values of the member keys. `seen`: the version of the definition that it acted
    upon last; `reason`: why that failed, "" when it is in force. One that was never made is pending or errored."""

    state: PartState = "pending"
    reason: str = ""
    config: dict[str, str] = {}
    seen: int = 0


class Definition(Record, frozen=True):
    """`parts` is by member number; `version` counts the changes of the configuration."""

    name: str
    description: str = ""
    config: dict[str, str] = {}
    phase: Phase = "defined"
    version: int = 1
    parts: dict[str, Part] = {}

    def part(self, member: int) -> Part:
        """A member's part; one that does not exist is still to be made."""
        return self.parts.get(str(member), Part())

    def whole(self, member: int) -> dict[str, str]:
        """The configuration as a member sees it, its own keys included."""
        return self.config | self.part(member).config


D = TypeVar("D", bound=Definition)


@dataclass(frozen=True)
class Words:
    """What LXD calls a refusal for one noun; `{...}` is filled in."""

    twice: str
    not_pending: str
    missing: str
    taken: str


@dataclass(frozen=True)
class Noun(Generic[D]):
    """One kind of definition: its documents, the kind of its names, its configuration keys, and LXD's words."""

    table: Table[D]
    kind: str
    keys: Keys
    words: Words
