"""How the log refuses or fails, as exceptions; the outcomes of transactions are values (`transaction.py`)."""

from collections.abc import Sequence


class LogError(Exception):
    """What the log could not do."""


class NotProposed(LogError):
    """The transaction is surely in no log: no majority can be reached. `missing` are the numbers of the lost voters."""

    def __init__(self, missing: Sequence[int], why: str = "no majority of the voters can be reached") -> None:
        self.missing = tuple(missing)
        names = ", ".join(str(member) for member in self.missing)
        super().__init__(f"{why} (missing members: {names})" if names else why)


class DiskFull(LogError):
    """The transaction is surely in no log: this member's disk has no room, and until it has, it takes no more."""

    def __init__(self) -> None:
        super().__init__("the disk of this member is full")


class Outdated(LogError):
    """The transaction is surely in no log: what was committed needs the level `needed`, which this program does not
    know. It has stopped applying, and needs a newer version."""

    def __init__(self, needed: int) -> None:
        self.needed = needed
        super().__init__(f"the log needs level {needed}, which this version does not know")


class OutcomeUnknown(LogError):
    """It was proposed, and its outcome was not seen in time. To repeat it with the same id is safe."""

    def __init__(self, transaction: str) -> None:
        self.transaction = transaction
        super().__init__(f"outcome unknown, transaction {transaction}")


class Stale(LogError):
    """The leader could not be asked in time: the local state, at `index`, may lack what others have committed."""

    def __init__(self, index: int) -> None:
        self.index = index
        super().__init__(f"no answer from the leader; the local state is of index {index}")


class TooLarge(LogError):
    """A transaction above the limit; `object` is its largest document as table/group/name, `size` in bytes."""

    def __init__(self, object: str, size: int, limit: int) -> None:
        self.object, self.size, self.limit = object, size, limit
        super().__init__(f"the change of {object} is too large: {size} bytes, at most {limit} can be stored at once")


class MembershipRefused(LogError):
    """The change of members is not allowed as it is; the message says why."""


class HelloRefused(LogError):
    """The other end of a stream is of another cluster, epoch or member."""
