"""What is replicated of the server's configuration: a document per key, so that changes of two keys never conflict."""

from lxdnode.node.documents import Record, Table


class Setting(Record, frozen=True):
    """`(settings, "cluster" or "member:NUMBER", KEY)`; a key at its default has no document."""

    value: str


SETTINGS = Table("settings", Setting)
CLUSTER = "cluster"


def member_group(member: int) -> str:
    """The group of the settings that one member has for itself."""
    return f"member:{member}"
