"""What is replicated of images. Their files never travel through the log: each member that has them says so in a
placement, `(placements, FINGERPRINT, MEMBER)`."""

from typing import Literal, Protocol, Self

from lxdnode.node.documents import Mark, Record, Table

Phase = Literal["created", "deleting"]
"""deleting: nobody sees it any more, and it goes when the last member has removed its files."""


class Asked(Protocol):
    """An image on another server, as a request names it."""

    server: str
    protocol: str
    certificate: str
    fingerprint: str
    alias: str


class Source(Record, frozen=True):
    """Where an image comes from: the image with the name `alias` on a server. `protocol`: lxd, simplestreams or direct.
    `certificate`: PEM that the server shows, "" for whom the system trusts."""

    server: str
    protocol: str = "lxd"
    certificate: str = ""
    alias: str = ""

    @classmethod
    def of(cls, asked: Asked) -> Self:
        """The source that a request names; of a fingerprint and an alias the fingerprint counts."""
        return cls(
            server=asked.server.rstrip("/") if asked.protocol != "direct" else asked.server,
            protocol=asked.protocol or "lxd",
            certificate=asked.certificate,
            alias=asked.fingerprint or asked.alias,
        )


class Image(Record, frozen=True):
    """`(images, "", FINGERPRINT)`: the fingerprint is the identity. Times are Unix seconds, 0 = never.

    `split`: metadata and root file system are two files. `update_source`: where a newer one is looked for, None when
    it was not asked for by an alias. `cached`: it came with a container, and expires."""

    size: int
    architecture: str
    split: bool = False
    filename: str = ""
    public: bool = False
    auto_update: bool = False
    cached: bool = False
    properties: dict[str, str] = {}
    created_at: float = 0.0
    expires_at: float = 0.0
    uploaded_at: float = 0.0
    phase: Phase = "created"
    update_source: Source | None = None


class Use(Record, frozen=True):
    """`(image_uses, "", FINGERPRINT)`: apart from the image, so that creations never conflict with edits."""

    last_used_at: float = 0.0


class Alias(Record, frozen=True):
    """`(image_aliases, "", ID)`; `target` is a full fingerprint."""

    name: str
    target: str
    description: str = ""


IMAGES = Table("images", Image)
USES = Table("image_uses", Use)
PLACEMENTS = Table("placements", Mark)
ALIASES = Table("image_aliases", Alias)
ALIAS_KIND = "image_alias"


def reference(fingerprint: str) -> str:
    """The group in which the aliases of an image are recorded."""
    return f"image:{fingerprint}"
