"""Where a new container comes from: an image, nothing, or another container (spec/containers.md 2 and 9).

Owns LXD's words for a wrong source and what a container inherits from it; refuses to copy files."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from lxdnode.node.containers import rules
from lxdnode.node.containers.expansion import expand
from lxdnode.node.containers.records import Container
from lxdnode.node.documents import View
from lxdnode.node.errors import Invalid, NotFound, NotImplementedHere
from lxdnode.node.images import rules as images
from lxdnode.node.images.records import IMAGES

if TYPE_CHECKING:
    from lxdnode.node.node import Node

_COPIED_VOLATILE = ("volatile.base_image", "volatile.last_state.idmap")


class Asked(Protocol):
    """The `source` of a request."""

    type: str
    mode: str
    alias: str
    fingerprint: str
    properties: dict[str, str]
    server: str
    source: str


@dataclass(frozen=True)
class Origin:
    """What a new container is made of. `image`: a fingerprint, or `container`: the record of the one that is copied;
    neither is an empty container. The rest is inherited where the request says nothing."""

    image: str | None = None
    container: Container | None = None
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
        return _of_container(view, node, asked.source)
    if asked.type == "migration":
        if asked.mode not in ("pull", "push"):
            raise NotImplementedHere(f"Mode '{asked.mode}' not implemented")
        raise NotImplementedHere("migration is not supported yet")
    raise Invalid(f"unknown source type {asked.type}")


def _of_image(view: View, asked: Asked) -> Origin:
    if asked.server:
        if asked.properties and not (asked.fingerprint or asked.alias):
            raise Invalid("Property match is only supported for local images")
        raise NotImplementedHere("images of other servers are not supported yet: import the image first")
    fingerprint = _fingerprint(view, asked)
    fingerprint, image = images.find(view, fingerprint)
    config = {f"image.{key}": value for key, value in image.properties.items()}
    return Origin(fingerprint, None, image.architecture, config | {"volatile.base_image": fingerprint})


def _fingerprint(view: View, asked: Asked) -> str:
    """Fingerprint before alias before properties; of several images with the properties the newest."""
    if asked.fingerprint:
        return asked.fingerprint
    if asked.alias:
        return images.find_alias(view, asked.alias)[1].target
    if not asked.properties:
        raise Invalid("Must specify one of alias, fingerprint or properties for init from image")
    wanted = asked.properties.items()
    matching = [
        (image.created_at, fingerprint)
        for fingerprint, image in view.all(IMAGES)
        if image.phase == "created" and wanted <= image.properties.items()
    ]
    if not matching:
        raise Invalid("No matching image could be found")
    return max(matching)[1]


def _of_container(view: View, node: "Node", name: str) -> Origin:
    if not name:
        raise Invalid("must specify a source container")
    if "/" in name:
        raise NotFound
    found = expand(view, rules.find(view, name))
    if found.container.member != node.member:
        raise NotImplementedHere(f"copying {name} from another member is not supported yet")
    config = {
        key: value for key, value in found.local.items() if not key.startswith("volatile.") or key in _COPIED_VOLATILE
    }
    return Origin(
        container=found.container,
        architecture=found.container.architecture,
        config=config,
        devices=found.container.devices,
        profiles=found.profiles,
        trigger="copy",
        resources=(name,),
    )
