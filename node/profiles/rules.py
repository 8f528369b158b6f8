"""What may be written about profiles (spec/rest.md 8, spec/config-keys.md 5)."""

import uuid
from collections.abc import Mapping

import msgspec

from lxdnode.drivers.devices.registry import validate_devices
from lxdnode.node.containers.keys import validate_config
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import AlreadyExists, Forbidden, Invalid, NodeError, NotFound
from lxdnode.node.profiles.records import DEFAULT, KIND, PROFILES, Profile, reference

Devices = Mapping[str, Mapping[str, str]]


def check_name(name: str) -> None:
    """Any text but an empty one, one with a slash, and the names of folders."""
    if not name:
        raise Invalid("No name provided")
    if "/" in name:
        raise Invalid("Profile names may not contain slashes")
    if name in (".", "..") or any(character < " " for character in name):
        raise Invalid(f"Invalid profile name '{name}'")


def check_content(config: Mapping[str, str], devices: Devices) -> None:
    """ValueError with LXD's words for a wrong key, value or device."""
    validate_config(config, profile=True)
    validate_devices(devices)


def create(draft: Draft, profile: Profile) -> str:
    """Makes a profile; returns its id."""
    check_name(profile.name)
    try:
        check_content(profile.config, profile.devices)
    except ValueError as error:
        raise Invalid(str(error)) from None
    if draft.find(KIND, profile.name) is not None:
        raise Invalid("The profile already exists")
    id = str(uuid.uuid4())
    draft.name(KIND, profile.name, id)
    draft.put(PROFILES, id, profile)
    return id


def find(view: View, name: str) -> tuple[str, Profile]:
    """(id, record) of a profile by name. NotFound when there is none."""
    return view.named(PROFILES, KIND, name)


def replace(draft: Draft, name: str, description: str, config: Mapping[str, str], devices: Devices) -> str:
    """Puts new content into a profile; returns its id. Wrong content is LXD's 500, not its 400."""
    id, profile = find(draft, name)
    try:
        check_content(config, devices)
    except ValueError as error:
        raise NodeError(str(error)) from None
    changed = msgspec.structs.replace(
        profile,
        description=description,
        config=dict(config),
        devices={device: dict(entry) for device, entry in devices.items()},
    )
    if changed != profile:
        draft.put(PROFILES, id, changed)
    return id


def rename(draft: Draft, name: str, new: str) -> None:
    """Gives a profile another name."""
    if name == DEFAULT:
        raise Forbidden("The 'default' profile cannot be renamed")
    check_name(new)
    id, profile = find(draft, name)
    if draft.find(KIND, new) is not None:
        raise AlreadyExists(f"Name '{new}' already in use")
    draft.unname(KIND, name)
    draft.name(KIND, new, id)
    draft.put(PROFILES, id, msgspec.structs.replace(profile, name=new))


def remove(draft: Draft, name: str) -> None:
    """Deletes a profile that nobody uses."""
    if name == DEFAULT:
        raise Forbidden("The 'default' profile cannot be deleted")
    id, _profile = find(draft, name)
    if draft.users(reference(id)):
        raise Invalid("Profile is currently in use")
    draft.unname(KIND, name)
    draft.delete(PROFILES, id)


def find_all(view: View, names: list[str]) -> list[tuple[str, Profile]]:
    """(id, record) of each profile that a container names, in its order. Invalid with LXD's words."""
    if len(set(names)) != len(names):
        raise Invalid("Duplicate profile found in request")
    found = []
    for name in names:
        try:
            found.append(find(view, name))
        except NotFound:
            raise Invalid(f"Requested profile '{name}' doesn't exist") from None
    return found
