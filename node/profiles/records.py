"""What is replicated of a profile. Its pools and networks are named in its devices, as clients write them."""

from lxdnode.node.documents import Record, Table


class Profile(Record, frozen=True):
    """`(profiles, "", ID)`."""

    name: str
    description: str = ""
    config: dict[str, str] = {}
    devices: dict[str, dict[str, str]] = {}


PROFILES = Table("profiles", Profile)
KIND = "profile"
DEFAULT = "default"


def reference(id: str) -> str:
    """The group in which the users of a profile are recorded."""
    return f"profile:{id}"
