"""Where a new container comes from: an image, nothing, or another container (spec/containers.md 2 and 9).

Owns LXD's words for a wrong source and what a container inherits from it; refuses to copy files."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lxdnode.node.containers import rules, snapshot_rules
from lxdnode.node.containers.expansion import expand
from lxdnode.node.containers.records import Container, Snapshot
from lxdnode.node.documents import View
from lxdnode.node.errors import Invalid, NotImplementedHere
from lxdnode.node.images import rules as images
from lxdnode.node.images.records import IMAGES
from lxdnode.node.images.records import Source as Remote

if TYPE_CHECKING:
    from lxdnode.node.containers.migrations import Arriving
    from lxdnode.node.node import Node

_NO_IMAGE = "Must specify one of alias, fingerprint or properties for init from image"
_COPIED_VOLATILE = ("volatile.base_image", "volatile.last_state.idmap")


class Asked(Protocol):
    """The `source` of a request."""

    type: str
    mode: str
    alias: str
    fingerprint: str
    properties: dict[str, str]
    server: str
    protocol: str
    certificate: str
    secret: str
    source: str
    container_only: bool
    base_image: str


@dataclass(frozen=True)
class Origin:
    """What a new container is made of. `image`: a fingerprint, or `remote`: an image that is to be downloaded first
    (`of_image` says then what it is), with the `secret` for it; or `id` and `container` of the one that is copied, or
    whose `snapshot` (a name) is, `archive`, the plain tarball of a backup, or `arrival`, a migration; none of them is
    an empty container.
    `snapshots`: those that come along. The rest is inherited where the request says nothing."""

    image: str | None = None
    remote: Remote | None = None
    secret: str = ""
    id: str = ""
    container: Container | None = None
    snapshot: str = ""
    snapshots: tuple[Snapshot, ...] = ()
    archive: Path | None = None
    arrival: "Arriving | None" = None
    architecture: str = ""
    config: dict[str, str] = field(default_factory=dict)
    devices: dict[str, dict[str, str]] = field(default_factory=dict)
    profiles: list[str] | None = None
    trigger: str = "create"
    resources: tuple[str, ...] = ()


def find(view: View, node: "Node", asked: Asked) -> Origin:
    """The origin that a request names. Invalid, NotFound or NotImplementedHere with LXD's words."""
    if asked.type == "none":
        return Origin()
    if asked.type == "image":
        return _of_image(view, asked)
    if asked.type == "copy":
        return _of_container(view, node, asked)
    if asked.type == "migration":
        if asked.mode not in ("pull", "push"):
            raise NotImplementedHere(f"Mode '{asked.mode}' not implemented")
        base = {"volatile.base_image": asked.base_image} if asked.base_image else {}
        return Origin(config=base, trigger="")
    raise Invalid(f"unknown source type {asked.type}")


def _of_image(view: View, asked: Asked) -> Origin:
    if not asked.server:
        return of_image(view, _fingerprint(view, asked))
    if not (asked.fingerprint or asked.alias):
        raise Invalid("Property match is only supported for local images" if asked.properties else _NO_IMAGE)
    return Origin(remote=Remote.of(asked), secret=asked.secret)


def of_image(view: View, fingerprint: str) -> Origin:
    """The origin that an image of this cluster is, by the beginning of its fingerprint. NotFound."""
    fingerprint, image = images.find(view, fingerprint)
    config = {f"image.{key}": value for key, value in image.properties.items()}
    config |= {"volatile.base_image": fingerprint}
    return Origin(fingerprint, architecture=image.architecture, config=config)


def _fingerprint(view: View, asked: Asked) -> str:
    """Fingerprint before alias before properties; of several images with the properties the newest."""
    if asked.fingerprint:
        return asked.fingerprint
    if asked.alias:
        return images.find_alias(view, asked.alias)[1].target
    if not asked.properties:
        raise Invalid(_NO_IMAGE)
    wanted = asked.properties.items()
    matching = [
        (image.created_at, fingerprint)
        for fingerprint, image in view.all(IMAGES)
        if image.phase == "created" and wanted <= image.properties.items()
    ]
    if not matching:
        raise Invalid("No matching image could be found")
    return max(matching)[1]


def holder(view: View, asked: Asked) -> int:
    """The number of the member that has what is copied. Invalid, NotFound."""
    return rules.owner(view, _container_name(asked))


def _container_name(asked: Asked) -> str:
    if not asked.source:
        raise Invalid("must specify a source container")
    return asked.source.partition("/")[0]


def _of_container(view: View, node: "Node", asked: Asked) -> Origin:
    id = rules.find(view, _container_name(asked))
    owner = expand(view, id)
    if owner.container.member != node.member:
        raise NotImplementedHere(f"copying {owner.name} from another member is not supported yet")
    _, is_snapshot, snapshot = asked.source.partition("/")
    all_snapshots = tuple(one for _, one in snapshot_rules.all_of(view, id))
    found = snapshot_rules.as_container(view, id, snapshot_rules.find(view, id, snapshot)[1]) if is_snapshot else owner
    return Origin(
        id=id,
        container=owner.container,
        snapshot=snapshot,
        snapshots=() if is_snapshot or asked.container_only else all_snapshots,
        architecture=found.container.architecture,
        config={key: value for key, value in found.local.items() if _is_copied(key)},
        devices=found.container.devices,
        profiles=found.profiles,
        trigger="copy",
        resources=(asked.source,),
    )


def _is_copied(key: str) -> bool:
    return not key.startswith("volatile.") or key in _COPIED_VOLATILE
