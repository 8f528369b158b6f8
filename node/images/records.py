"""What is replicated of images. Their files never travel through the log: each member that has them says so in a
placement, `(placements, FINGERPRINT, MEMBER)`."""

from typing import Literal

from lxdnode.node.documents import Mark, Record, Table

Phase = Literal["created", "deleting"]
"""deleting: nobody sees it any more, and it goes when the last member has removed its files."""


class Image(Record, frozen=True):
    """`(images, "", FINGERPRINT)`: the fingerprint is the identity. Times are Unix seconds, 0 = never.

    `split`: metadata and root file system are two files."""

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
