"""What a configuration key is: declared once, next to the code that obeys it, and read by everything else.

Owns lookup and validation; refuses to know which keys exist (each noun and device has its own `Table`)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lxdnode.drivers.config.kinds import Check, anything


class InvalidKey(ValueError):
    """A key that does not exist, or a value that its key refuses; the text has LXD's words."""


@dataclass(frozen=True)
class Key:
    """One configuration key.

    `name` ends in `.*` for a family (`user.*`) and may hold one inner `*` (`volatile.*.hwaddr`). `live`: a change
    acts on what runs, without a restart. `member`: each member of a cluster has its own value. `extension`: the
    API extension that brought it."""

    name: str
    kind: Check = anything
    default: str = ""
    live: bool = False
    member: bool = False
    extension: str | None = None
    doc: str = ""

    def matches(self, name: str) -> bool:
        """Whether this declaration is the one for the key `name`."""
        if "*" not in self.name:
            return self.name == name
        head, tail = self.name.split("*", 1)
        return name.startswith(head) and name.endswith(tail) and len(name) > len(head) + len(tail)


class Table:
    """The keys that one kind of object takes, e.g. `Table("Unknown configuration key: {key}", [Key(...), ...])`."""

    def __init__(self, unknown: str, keys: Iterable[Key]) -> None:
        self._unknown = unknown
        self._keys = tuple(keys)
        self._exact = {key.name: key for key in self._keys if "*" not in key.name}
        self._families = tuple(key for key in self._keys if "*" in key.name)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def find(self, name: str) -> Key | None:
        """The declaration of a key, or None for one that does not exist."""
        if name in self._exact:
            return self._exact[name]
        return next((key for key in self._families if key.matches(name)), None)

    def check(self, name: str, value: str) -> None:
        """Refuses an unknown key and a value of the wrong kind. InvalidKey with LXD's words."""
        key = self.find(name)
        if key is None:
            raise InvalidKey(self._unknown.format(key=name))
        try:
            key.kind(value)
        except ValueError as error:
            raise InvalidKey(str(error)) from None

    def validate(self, config: Mapping[str, str]) -> None:
        """Checks each key and value in the order of the keys' names, so that the first error is always the same."""
        for name in sorted(config):
            self.check(name, config[name])

    def member_keys(self, config: Mapping[str, str]) -> dict[str, str]:
        """The part of a configuration that each member has for itself."""
        return {name: value for name, value in config.items() if (key := self.find(name)) and key.member}

    def value(self, config: Mapping[str, str], name: str) -> str:
        """The value of a key, or its default."""
        key = self.find(name)
        return config.get(name) or (key.default if key else "")
