"""Bodies and objects of /1.0/containers/NAME/backups (spec/containers.md 12)."""

from datetime import UTC, datetime

import msgspec

NEVER = datetime(1, 1, 1, tzinfo=UTC)
"""Go's zero time."""


class BackupsPost(msgspec.Struct):
    """POST backups. `name` "": the server makes one up. `expires_at` is how today's client calls `expiry`."""

    name: str = ""
    expiry: datetime | None = None
    expires_at: datetime | None = None
    container_only: bool = False
    instance_only: bool = False
    optimized_storage: bool = False


class BackupPost(msgspec.Struct):
    """Rename."""

    name: str = ""


class Backup(msgspec.Struct):
    """A backup; `name` is `CT/BACKUP`."""

    name: str
    creation_date: datetime
    expiry_date: datetime
    container_only: bool
    optimized_storage: bool
