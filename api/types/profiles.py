"""Bodies of /1.0/profiles (spec/rest.md 8)."""

import msgspec

Devices = dict[str, dict[str, str]]


class ProfilesPost(msgspec.Struct):
    """POST /1.0/profiles."""

    name: str = ""
    description: str = ""
    config: dict[str, str] = {}
    devices: Devices = {}


class ProfilePut(msgspec.Struct):
    """PUT replaces all three; PATCH merges config by key and devices by name, and keeps what is absent (None)."""

    description: str | None = None
    config: dict[str, str] | None = None
    devices: Devices | None = None


class ProfilePost(msgspec.Struct):
    """Rename."""

    name: str = ""


class Profile(msgspec.Struct):
    """A profile; `used_by` are URLs of containers."""

    name: str
    description: str
    config: dict[str, str]
    devices: Devices
    used_by: list[str]
