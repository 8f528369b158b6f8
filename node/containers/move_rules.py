"""What may be written about a container that moves to another member (spec/clustering.md 8).

Owns the fence: a container that is `moving` becomes either the new member's or its old one's again, and both write
the same document, so that they can never both be right. Refuses to copy data."""

import msgspec

from lxdnode.node.containers import backup_rules, names, rules, snapshot_rules, volatile
from lxdnode.node.containers.expansion import expand
from lxdnode.node.containers.records import CONTAINERS, KIND, STATUS, Container, Status
from lxdnode.node.documents import Draft
from lxdnode.node.errors import NodeError, NotFound


def begin(draft: Draft, id: str, name: str, operation: str) -> None:
    """Lets another member take a stopped container over, under `name`, by an operation."""
    container = _get(draft, id)
    if container.phase != "created":
        raise NodeError(f"Container '{container.name}' is being made or deleted")
    if rules.is_running(draft, id):
        raise NodeError("Container is running")
    if name != container.name:
        names.check(name, "Invalid container name")
        rules.check_free(draft, name)
    draft.put(CONTAINERS, id, msgspec.structs.replace(container, phase="moving", operation=operation))


def take_back(draft: Draft, id: str, member: int) -> bool:
    """Makes a container its old member's again; False when the other one was faster, or it has gone."""
    container = draft.get(CONTAINERS, id)
    if container is None or container.member != member:
        return False
    if container.phase == "moving":
        draft.put(CONTAINERS, id, msgspec.structs.replace(container, phase="created", operation=""))
    return True


def complete(draft: Draft, id: str, name: str, operation: str, place: rules.Place) -> None:
    """Makes a container the member's at `place`, whose data it has. NodeError when the move was given up meanwhile.

    Backups do not come along, as with LXD, whose move is a copy."""
    found = expand(draft, id)
    container = found.container
    if container.phase != "moving" or container.operation != operation:
        raise NodeError(f"The move of container '{container.name}' was given up")
    kept = dict(found.status.volatile)
    volatile.change_member(draft, id, container.member, place.member, place.range, found.config, kept)
    if name != container.name:
        draft.unname(KIND, container.name)
        draft.name(KIND, name, id, f"Name '{name}' already in use")
        snapshot_rules.follow(draft, id, container.name, name)
        draft.event("container-renamed", rules.url(container.name), new_name=name)
    backup_rules.forget_all(draft, id)
    moved = msgspec.structs.replace(container, name=name, member=place.member, phase="created", operation="")
    draft.put(CONTAINERS, id, moved)
    draft.put(STATUS, id, msgspec.structs.replace(draft.get(STATUS, id) or Status(), volatile=kept))
    draft.event("container-updated", rules.url(name))


def _get(draft: Draft, id: str) -> Container:
    container = draft.get(CONTAINERS, id)
    if container is None:
        raise NotFound
    return container
