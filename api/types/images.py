"""Bodies of /1.0/images (spec/rest.md 6)."""

from datetime import datetime

import msgspec


class AliasName(msgspec.Struct):
    """An alias as an image shows it, or as a new image gets it."""

    name: str = ""
    description: str = ""


class Source(msgspec.Struct):
    """Where a new image comes from: container, snapshot, image (of another server) or url."""

    type: str = ""
    name: str = ""
    alias: str = ""
    fingerprint: str = ""
    url: str = ""
    server: str = ""
    protocol: str = ""
    certificate: str = ""
    secret: str = ""


class ImagesPost(msgspec.Struct):
    """POST /1.0/images with a JSON body."""

    source: Source = msgspec.field(default_factory=Source)
    filename: str = ""
    public: bool = False
    auto_update: bool = False
    properties: dict[str, str] = {}
    aliases: list[AliasName] = []
    compression_algorithm: str = ""


class ImagePut(msgspec.Struct):
    """PUT replaces all three; PATCH merges properties by key, and keeps what is absent (None)."""

    auto_update: bool | None = None
    public: bool | None = None
    properties: dict[str, str] | None = None


class UpdateSource(msgspec.Struct):
    """Where an image was downloaded from."""

    alias: str
    certificate: str
    protocol: str
    server: str


class Image(msgspec.Struct):
    """An image; one that was not downloaded has no `update_source`."""

    auto_update: bool
    properties: dict[str, str]
    public: bool
    aliases: list[AliasName]
    architecture: str
    cached: bool
    filename: str
    fingerprint: str
    size: int
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime
    uploaded_at: datetime
    update_source: UpdateSource | msgspec.UnsetType = msgspec.UNSET


class AliasesPost(msgspec.Struct):
    """POST /1.0/images/aliases."""

    name: str = ""
    target: str = ""
    description: str = ""


class AliasPut(msgspec.Struct):
    """PUT replaces both; PATCH keeps what is absent (None)."""

    description: str | None = None
    target: str | None = None


class AliasPost(msgspec.Struct):
    """Rename."""

    name: str = ""


class Alias(msgspec.Struct):
    """An alias; `target` is a full fingerprint."""

    description: str
    target: str
    name: str
