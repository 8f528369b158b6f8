"""What may be written about images and their aliases (spec/images.md 2 and 3, spec/rest.md 6).

Owns LXD's words; refuses to touch files."""

import re
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import TypedDict, Unpack

import msgspec

from lxdnode.node.documents import Draft, Mark, View
from lxdnode.node.errors import AlreadyExists, Invalid, NodeError, NotFound
from lxdnode.node.images.records import ALIAS_KIND, ALIASES, IMAGES, PLACEMENTS, USES, Alias, Image, Use, reference

_USE_STEP = 60.0
"""Seconds in which uses of an image count as one: creations of many containers need not write it each."""
_FINGERPRINT = re.compile(r"[0-9a-f]{1,64}")


def find(view: View, prefix: str, *, public_only: bool = False) -> tuple[str, Image]:
    """(fingerprint, record) of an image by the beginning of its fingerprint. NotFound; NodeError when several match."""
    exact = view.get(IMAGES, prefix) if len(prefix) == 64 else None
    if exact is not None:
        found = [(prefix, exact)]
    elif _FINGERPRINT.fullmatch(prefix):
        found = [(one, image) for one, image in view.all(IMAGES) if one.startswith(prefix)]
    else:
        found = []
    found = [(one, image) for one, image in found if image.phase == "created" and (image.public or not public_only)]
    if not found:
        raise NotFound
    if len(found) > 1:
        raise NodeError("Partial fingerprint matches more than one image")
    return found[0]


def all_images(view: View, *, public_only: bool = False) -> list[tuple[str, Image]]:
    """(fingerprint, record) of every image that is not being deleted, sorted."""
    found = view.all(IMAGES)
    return [(one, image) for one, image in found if image.phase == "created" and (image.public or not public_only)]


def aliases(view: View, fingerprint: str) -> list[Alias]:
    """The aliases of an image, sorted by name."""
    ids = (user.partition(":")[2] for user in view.users(reference(fingerprint)))
    found = [alias for id in ids if (alias := view.get(ALIASES, id)) is not None]
    return sorted(found, key=lambda alias: alias.name)


def holders(view: View, fingerprint: str) -> list[int]:
    """The numbers of the members that have an image's files."""
    return sorted(int(number) for number in view.documents(PLACEMENTS.name, fingerprint))


def add(draft: Draft, fingerprint: str, image: Image, member: int) -> None:
    """Records an image whose files are on a member. AlreadyExists with LXD's words; one that is being deleted is
    taken back."""
    known = draft.get(IMAGES, fingerprint)
    if known is not None and known.phase == "created":
        raise AlreadyExists("Image with same fingerprint already exists")
    draft.put(IMAGES, fingerprint, image)
    place(draft, fingerprint, member)


def place(draft: Draft, fingerprint: str, member: int) -> None:
    """Records that a member has an image's files. NotFound when the image was deleted meanwhile."""
    if draft.get(IMAGES, fingerprint) is None:
        raise NotFound
    draft.put(PLACEMENTS, str(member), Mark(), fingerprint)


def displace(draft: Draft, fingerprint: str, member: int) -> None:
    """Records that a member has no files of an image any more; a deleted image goes with its last files."""
    if draft.get(PLACEMENTS, str(member), fingerprint) is not None:
        draft.delete(PLACEMENTS, str(member), fingerprint)
    image = draft.get(IMAGES, fingerprint)
    if image is not None and image.phase == "deleting" and not draft.documents(PLACEMENTS.name, fingerprint):
        draft.delete(IMAGES, fingerprint)


def replace(draft: Draft, prefix: str, *, public: bool, auto_update: bool, properties: Mapping[str, str]) -> None:
    """Changes what can be changed of an image."""
    fingerprint, image = find(draft, prefix)
    changed = msgspec.structs.replace(image, public=public, auto_update=auto_update, properties=dict(properties))
    if changed != image:
        draft.put(IMAGES, fingerprint, changed)


class Amendment(TypedDict):
    """What a request asks of an image that is copied from another server; "", False and {} ask nothing."""

    filename: str
    public: bool
    auto_update: bool
    properties: Mapping[str, str]


def amend(draft: Draft, fingerprint: str, **asked: Unpack[Amendment]) -> None:
    """Lays over an image what was asked of its copy; what has no source is not kept up to date. NotFound."""
    fingerprint, image = find(draft, fingerprint)
    changed = msgspec.structs.replace(
        image,
        filename=asked["filename"] or image.filename,
        public=asked["public"] or image.public,
        auto_update=image.auto_update or (asked["auto_update"] and image.update_source is not None),
        properties={**image.properties, **asked["properties"]},
    )
    if changed != image:
        draft.put(IMAGES, fingerprint, changed)


def use(draft: Draft, fingerprint: str) -> None:
    """Records that a container was made of an image now."""
    known = draft.get(USES, fingerprint) or Use()
    if time.time() - known.last_used_at >= _USE_STEP and draft.get(IMAGES, fingerprint) is not None:
        draft.put(USES, fingerprint, Use(last_used_at=time.time()))


def condemn(draft: Draft, prefix: str) -> str:
    """Deletes an image with its aliases: each member that has files removes them next; returns the fingerprint."""
    fingerprint, image = find(draft, prefix)
    for alias in aliases(draft, fingerprint):
        remove_alias(draft, alias.name)
    if draft.get(USES, fingerprint) is not None:
        draft.delete(USES, fingerprint)
    if draft.documents(PLACEMENTS.name, fingerprint):
        draft.put(IMAGES, fingerprint, msgspec.structs.replace(image, phase="deleting"))
    else:
        draft.delete(IMAGES, fingerprint)
    return fingerprint


def supersede(draft: Draft, old: str, new: str) -> None:
    """Deletes an image in favour of a newer one, which gets its aliases and its last use. NotFound."""
    for alias in aliases(draft, old):
        replace_alias(draft, alias.name, new, alias.description)
    used, since = draft.get(USES, old), draft.get(USES, new) or Use()
    if used is not None and used.last_used_at > since.last_used_at:
        draft.put(USES, new, used)
    condemn(draft, old)


# Aliases.


def find_alias(view: View, name: str) -> tuple[str, Alias]:
    """(id, record) of an alias. NotFound."""
    return view.named(ALIASES, ALIAS_KIND, name)


def create_alias(draft: Draft, name: str, target: str, description: str) -> None:
    """Gives an image a name; `target` may be the beginning of a fingerprint."""
    if not name or not target:
        raise Invalid("name and target are required")
    if draft.find(ALIAS_KIND, name) is not None:
        raise AlreadyExists(f"Alias '{name}' already exists")
    fingerprint, _image = find(draft, target)
    id = str(uuid.uuid4())
    draft.name(ALIAS_KIND, name, id)
    draft.put(ALIASES, id, Alias(name=name, target=fingerprint, description=description))
    draft.refer(reference(fingerprint), f"alias:{id}")


def create_aliases(draft: Draft, target: str, wanted: Iterable[tuple[str, str]]) -> None:
    """Gives a new image its (name, description) aliases. NodeError with LXD's words for one that is taken."""
    for name, description in wanted:
        if draft.find(ALIAS_KIND, name) is not None:
            raise NodeError(f"Alias already exists: {name}")
        create_alias(draft, name, target, description)


def replace_alias(draft: Draft, name: str, target: str, description: str) -> None:
    """Points an alias to another image."""
    if not target:
        raise Invalid("The target field is required")
    id, alias = find_alias(draft, name)
    fingerprint, _image = find(draft, target)
    if fingerprint != alias.target:
        draft.unrefer(reference(alias.target), f"alias:{id}")
        draft.refer(reference(fingerprint), f"alias:{id}")
    draft.put(ALIASES, id, Alias(name=name, target=fingerprint, description=description))


def rename_alias(draft: Draft, name: str, new: str) -> None:
    """Gives an alias another name."""
    if not new:
        raise Invalid("name and target are required")
    id, alias = find_alias(draft, name)
    draft.name(ALIAS_KIND, new, id, f"Alias '{new}' already in use")
    draft.unname(ALIAS_KIND, name)
    draft.put(ALIASES, id, msgspec.structs.replace(alias, name=new))


def remove_alias(draft: Draft, name: str) -> None:
    """Removes an alias; its image stays."""
    id, alias = find_alias(draft, name)
    draft.unname(ALIAS_KIND, name)
    draft.unrefer(reference(alias.target), f"alias:{id}")
    draft.delete(ALIASES, id)
