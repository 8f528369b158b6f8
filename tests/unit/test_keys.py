"""Configuration keys: the kinds of values, and which keys exist (spec/config-keys.md 1 and 3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdnode.drivers.config import kinds
from lxdnode.drivers.config.key import InvalidKey, Key, Table
from lxdnode.drivers.devices.registry import validate_devices
from lxdnode.node.containers.keys import CONTAINER_KEYS, parse_allowance, validate_config


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 0),
        ("0", 0),
        ("7B", 7),
        ("10 bytes", 10),
        ("1kB", 1000),
        ("2MB", 2_000_000),
        ("1KiB", 1024),
        ("3GiB", 3 << 30),
    ],
)
def test_sizes_are_read_with_decimal_and_binary_suffixes(text: str, size: int) -> None:
    assert kinds.parse_size(text) == size


@pytest.mark.parametrize("text", ["k", "1k", "1KB", "1G", "-1", "1.5GB", "1 GB", "GB", "1 bytesx"])
def test_other_suffixes_are_refused_with_the_whole_value(text: str) -> None:
    with pytest.raises(ValueError, match=f"^Invalid value: {text}$"):
        kinds.parse_size(text)


def test_a_size_beyond_64_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="^Invalid integer: 99EB$"):
        kinds.parse_size("99EB")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1.00kB"), (1_200_000_000, "1.20GB"), (2**70, "1180.59EB")],
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert kinds.show_size(count) == text


def test_rates_have_words_of_their_own() -> None:
    assert kinds.parse_bits("10Mbit") == 10_000_000
    assert kinds.parse_bits("1Kibit") == 1024
    with pytest.raises(ValueError, match="^Unsupported suffix: MB$"):
        kinds.parse_bits("10MB")


@given(st.integers(min_value=0, max_value=1 << 40), st.sampled_from(["", "B", "kB", "MiB"]))
def test_a_size_scales_with_its_suffix(number: int, suffix: str) -> None:
    unit = {"": 1, "B": 1, "kB": 1000, "MiB": 1 << 20}[suffix]
    if number * unit < 1 << 63:
        assert kinds.parse_size(f"{number}{suffix}") == number * unit


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("limits.nothing", "1", "Unknown configuration key: limits.nothing"),
        ("limits.kernel.", "1", "Unknown configuration key: limits.kernel."),
        ("boot.autostart", "maybe", "Invalid value for a boolean: maybe"),
        ("boot.autostart.delay", "1.5", "Invalid value for an integer: 1.5"),
        ("limits.cpu.priority", "11", "Invalid value for a limit '11'. Must be between 0 and 10."),
        ("limits.memory.enforce", "firm", "Invalid value: firm (not one of [soft hard])"),
        ("security.idmap.size", "auto", "Invalid value for uint32: auto: invalid syntax"),
        ("limits.memory", "1G", "Invalid value: 1G"),
        ("limits.cpu.allowance", "half", "Invalid allowance: half"),
        ("raw.lxc", "lxc.log.file = /x", "Setting lxc.logfile is not allowed"),
        ("raw.lxc", "no equals sign", "Invalid raw.lxc line: no equals sign"),
        ("raw.lxc", "lxc.net.0.type = none", "Only interface-specific ipv4/ipv6 lxc.net. keys are allowed"),
    ],
)
def test_wrong_container_keys_are_refused_in_lxds_words(key: str, value: str, words: str) -> None:
    with pytest.raises(InvalidKey) as caught:
        validate_config({key: value})
    assert str(caught.value) == words


def test_an_empty_value_passes_every_kind() -> None:
    validate_config({key.name.replace("*", "x"): "" for key in CONTAINER_KEYS})


def test_profiles_take_no_volatile_and_no_image_keys() -> None:
    with pytest.raises(InvalidKey, match=r"^Volatile keys can only be set on containers\.$"):
        validate_config({"volatile.base_image": "x"}, profile=True)
    with pytest.raises(InvalidKey, match=r"^Image keys can only be set on containers\.$"):
        validate_config({"image.os": "x"}, profile=True)
    validate_config({"volatile.eth0.hwaddr": "00:16:3e:00:00:01", "image.os": "busybox"})


def test_syscall_keys_exclude_each_other() -> None:
    with pytest.raises(InvalidKey, match="raw.seccomp is mutually exclusive"):
        validate_config({"raw.seccomp": "2", "security.syscalls.blacklist": "mkdir"})
    with pytest.raises(InvalidKey, match="whitelist is mutually exclusive"):
        validate_config({"security.syscalls.whitelist": "read", "security.syscalls.blacklist": "mkdir"})


def test_an_allowance_is_a_share_or_a_quota() -> None:
    assert parse_allowance("50%") == 50
    assert parse_allowance("25ms/100ms") == (25, 100)


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ({}, "Missing device type for device 'd'"),
        ({"type": "toaster"}, "Invalid device type for device 'd'"),
        ({"type": "none", "path": "/x"}, "Invalid device configuration key for none: path"),
        ({"type": "nic"}, "Missing nic type"),
        ({"type": "nic", "nictype": "bond"}, "Bad nic type: bond"),
        ({"type": "nic", "nictype": "bridged"}, "Missing parent for bridged type nic"),
        ({"type": "disk"}, 'Disk entry is missing the required "path" property.'),
        ({"type": "disk", "path": "/x"}, 'Disk entry is missing the required "source" property.'),
        ({"type": "disk", "path": "/", "source": "/x"}, 'Root disk entry may not have a "source" property set.'),
        ({"type": "disk", "path": "/x", "source": "/y", "size": "1GB"}, "Only the root disk may have a size quota."),
        ({"type": "usb"}, "Missing vendorid for USB device."),
        (
            {"type": "proxy", "listen": "tcp:127.0.0.1:1"},
            'Proxy device entry is missing the required "connect" property.',
        ),
    ],
)
def test_wrong_devices_are_refused_in_lxds_words(device: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        validate_devices({"d": device})
    assert str(caught.value) == words


def test_an_expanded_set_needs_exactly_one_root_disk() -> None:
    root = {"type": "disk", "path": "/", "pool": "default"}
    validate_devices({"root": root}, expanded=True)
    with pytest.raises(ValueError, match=r"^No root device could be found\.$"):
        validate_devices({}, expanded=True)


def test_a_family_of_keys_needs_something_in_place_of_its_star() -> None:
    table = Table("no key {key}", [Key("volatile.*.name"), Key("user.*")])
    assert table.find("volatile.eth0.name") is not None
    assert table.find("volatile..name") is None
    assert table.find("user.") is None
