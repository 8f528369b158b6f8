"""What may be written about backups (spec/containers.md 12).

Owns their names, phases and LXD's words; refuses to touch files."""

import re
from collections.abc import Iterator

import msgspec

from lxdnode.node.containers.records import BACKUPS, CONTAINERS, Backup
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import Invalid, NodeError, NotFound


def check_name(name: str) -> None:
    """Refuses names that cannot be the second part of `CT/BACKUP`. Invalid."""
    if "/" in name:
        raise Invalid("Backup names may not contain slashes")
    if name in ("", ".", ".."):
        raise Invalid(f"Invalid backup name: {name!r}")


def all_of(view: View, container: str) -> list[tuple[str, Backup]]:
    """(id, record) of the backups of a container (its id) that are ready, oldest first."""
    found = [(id, one) for id, one in view.all(BACKUPS, container) if one.phase == "created"]
    return sorted(found, key=lambda pair: (pair[1].created_at, pair[1].name))


def find(view: View, container: str, name: str) -> tuple[str, Backup]:
    """(id, record) of a backup of a container (its id) by the second part of its name. NotFound."""
    for id, backup in all_of(view, container):
        if backup.name == name:
            return id, backup
    raise NotFound


def unfinished(view: View, member: int) -> Iterator[tuple[str, str]]:
    """(container's id, id) of the backups on a member that are being made or deleted."""
    for container_id in sorted(view.state.groups(BACKUPS.name)):
        container = view.get(CONTAINERS, container_id)
        if container is not None and container.member == member:
            yield from ((container_id, id) for id, one in view.all(BACKUPS, container_id) if one.phase != "created")


def next_name(view: View, container: str) -> str:
    """`backupN` with the number after the highest in use."""
    matches = (re.fullmatch(r"backup(\d+)", backup.name) for _, backup in view.all(BACKUPS, container))
    return f"backup{max((int(match[1]) + 1 for match in matches if match), default=0)}"


def reserve(draft: Draft, container: str, id: str, backup: Backup) -> None:
    """Writes a pending backup. NodeError when the name is taken."""
    _check_free(draft, container, backup.name)
    draft.put(BACKUPS, id, msgspec.structs.replace(backup, phase="pending"), container)


def confirm(draft: Draft, container: str, id: str) -> None:
    """Makes a pending backup one that is ready."""
    draft.put(BACKUPS, id, msgspec.structs.replace(_get(draft, container, id), phase="created"), container)


def rename(draft: Draft, container: str, id: str, new: str) -> None:
    """Gives a backup another name. NodeError when it is taken."""
    backup = _get(draft, container, id)
    _check_free(draft, container, new)
    draft.put(BACKUPS, id, msgspec.structs.replace(backup, name=new), container)


def condemn(draft: Draft, container: str, id: str) -> None:
    """Marks a backup for deletion: its file goes next, whatever happens to the daemon."""
    draft.put(BACKUPS, id, msgspec.structs.replace(_get(draft, container, id), phase="deleting"), container)


def forget(draft: Draft, container: str, id: str) -> None:
    """Deletes the document of a backup whose file has gone; nothing when there is none."""
    if draft.get(BACKUPS, id, container) is not None:
        draft.delete(BACKUPS, id, container)


def forget_all(draft: Draft, container: str) -> None:
    """Deletes the documents of all backups of a container that goes."""
    for id in sorted(draft.documents(BACKUPS.name, container)):
        draft.delete(BACKUPS, id, container)


def _check_free(draft: Draft, container: str, name: str) -> None:
    check_name(name)
    owner = draft.get(CONTAINERS, container)
    if owner is None:
        raise NotFound
    if owner.phase != "created":
        raise NodeError(f"Container '{owner.name}' is being made or deleted")
    if any(backup.name == name for _, backup in draft.all(BACKUPS, container)):
        raise NodeError(f"backup '{owner.name}/{name}' already exists")


def _get(draft: Draft, container: str, id: str) -> Backup:
    backup = draft.get(BACKUPS, id, container)
    if backup is None:
        raise NotFound
    return backup
