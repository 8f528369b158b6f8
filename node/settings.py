"""The settings in force on this member, read from what it has applied."""

from lxdnode.drivers.config.kinds import is_true
from lxdnode.node.server.keys import ADDRESS, CLUSTER_ADDRESS
from lxdnode.node.server.rules import effective, value_of
from lxdnode.node.store import Store


class Settings:
    """Reads server keys; writing them is `server/rules.py`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, name: str) -> str:
        """The value of a key, or its default."""
        return value_of(self._store.view(), self._store.member, name)

    def number(self, name: str) -> int:
        """The value of an integer key."""
        return int(self.get(name))

    def flag(self, name: str) -> bool:
        """Whether a boolean key is on."""
        return is_true(self.get(name))

    def addresses(self) -> dict[str, str]:
        """The keys that say where this member listens."""
        return {name: value for name, value in self.all().items() if name in (ADDRESS, CLUSTER_ADDRESS)}

    def all(self) -> dict[str, str]:
        """Every key that is not at its default."""
        return effective(self._store.view(), self._store.member)
