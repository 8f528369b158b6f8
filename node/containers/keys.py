"""The configuration keys of containers and profiles (spec/config-keys.md 3 and 4).

Owns which keys exist, their kinds and the rules that bind several of them; refuses to act on any."""

import os
import re
from collections.abc import Iterator, Mapping

from lxdnode.drivers.config.key import InvalidKey, Key, Table
from lxdnode.drivers.config.kinds import (
    anything,
    boolean,
    cpus,
    integer,
    is_true,
    memory,
    one_of,
    priority,
    size,
    uint32,
)
from lxdnode.drivers.host.idmap import parse_raw

UNPRIVILEGED_ONLY = "LXD_UNPRIVILEGED_ONLY"
"""The variable of the daemon's environment that, as `true`, has every container keep a user namespace."""

CONTAINER_KEYS = Table(
    "Unknown configuration key: {key}",
    [
        Key("boot.autostart", boolean, doc="Start with the daemon; unset: as it was when the daemon ended"),
        Key("boot.autostart.delay", integer, "0", doc="Seconds to wait after this container's start"),
        Key("boot.autostart.priority", integer, "0", doc="Higher starts first"),
        Key(
            "boot.host_shutdown_timeout",
            integer,
            "30",
            live=True,
            extension="container_host_shutdown_timeout",
            doc="Seconds to wait for a clean stop when the host goes down",
        ),
        Key(
            "boot.stop.priority", integer, "0", live=True, extension="container_stop_priority", doc="Higher stops first"
        ),
        Key("environment.*", live=True, doc="Environment of init and of what exec runs"),
        Key("image.*", live=True, extension="container_image_properties", doc="Properties of the image"),
        Key("limits.cpu", cpus, live=True, doc="Number of CPUs, or a list of them (`0-1,3`)"),
        Key("limits.cpu.allowance", live=True, default="100%", doc="`50%` as a share, `25ms/100ms` as a hard limit"),
        Key("limits.cpu.priority", priority, "10", live=True, doc="Weight among containers of the same share"),
        Key("limits.disk.priority", priority, "5", live=True, doc="Weight of block I/O"),
        Key("limits.kernel.*", extension="kernel_limits", doc="A resource limit of init: `soft:hard` or `unlimited`"),
        Key("limits.memory", memory, live=True, doc="A size, or a percentage of the host's memory"),
        Key("limits.memory.enforce", one_of("soft", "hard"), "hard", live=True, doc="Whether the limit is strict"),
        Key("limits.memory.swap", boolean, "true", live=True, doc="Whether memory may be swapped out"),
        Key("limits.memory.swap.priority", priority, "10", live=True, doc="How readily memory is swapped out"),
        Key(
            "limits.network.priority",
            priority,
            "0",
            live=True,
            doc="Priority of what is sent, where the kernel has net_prio",
        ),
        Key("limits.processes", integer, live=True, doc="Most processes"),
        Key("linux.kernel_modules", live=True, doc="Modules to load before the start, separated by commas"),
        Key("migration.incremental.memory", boolean, "false", live=True, extension="migration_pre_copy"),
        Key("migration.incremental.memory.goal", uint32, "70", live=True, extension="migration_pre_copy"),
        Key("migration.incremental.memory.iterations", uint32, "10", live=True, extension="migration_pre_copy"),
        Key("nvidia.runtime", boolean, "false", extension="nvidia_runtime", doc="Pass NVIDIA's runtime libraries"),
        Key("raw.apparmor", live=True, doc="Lines added to the AppArmor profile, where the kernel has AppArmor"),
        Key("raw.idmap", extension="id_map", doc="Extra `both|uid|gid HOST CONTAINER` lines of ids granted to root"),
        Key("raw.lxc", doc="Lines added to the LXC configuration"),
        Key("raw.seccomp", extension="container_syscall_filtering", doc="The whole seccomp policy"),
        Key("security.devlxd", boolean, "true", live=True, extension="restrict_devlxd", doc="Whether /dev/lxd exists"),
        Key("security.devlxd.images", boolean, "false", live=True, extension="devlxd_images"),
        Key("security.idmap.base", uint32, extension="id_map_base", doc="First host id of an isolated map"),
        Key(
            "security.idmap.isolated", boolean, "false", extension="id_map", doc="A map shared with no other container"
        ),
        Key("security.idmap.size", uint32, extension="id_map", doc="Length of an isolated map"),
        Key("security.nesting", boolean, "false", doc="Whether containers may run inside"),
        Key("security.privileged", boolean, "false", doc="Without a user namespace"),
        Key("security.protection.delete", boolean, "false", live=True, extension="container_protection_delete"),
        Key("security.syscalls.blacklist", extension="container_syscall_filtering"),
        Key("security.syscalls.blacklist_compat", boolean, "false", extension="container_syscall_filtering"),
        Key("security.syscalls.blacklist_default", boolean, "true", extension="container_syscall_filtering"),
        Key("security.syscalls.whitelist", extension="container_syscall_filtering"),
        Key("user.*", live=True, doc="Free text, readable inside through /dev/lxd"),
        Key("volatile.apply_quota", size, doc="A root disk size that waits for the next start"),
        Key("volatile.apply_template", doc="The template trigger of the next start"),
        Key("volatile.base_image", doc="Fingerprint of the image"),
        Key("volatile.idmap.base", doc="First id of the map that the next start uses"),
        Key("volatile.idmap.next", doc="The map that the next start uses, as JSON"),
        Key("volatile.last_state.idmap", doc="The map that the root file system is shifted by, as JSON"),
        Key("volatile.last_state.power", doc="The state when the daemon last knew"),
        Key("volatile.*.host_name", anything),
        Key("volatile.*.hwaddr", anything),
        Key("volatile.*.name", anything),
    ],
)
"""Every key that a container takes; a profile takes them all but `volatile.*` and `image.*`."""

_SYSCALLS = "security.syscalls."


def validate_config(config: Mapping[str, str], profile: bool = False) -> None:
    """Checks each key of a local or expanded configuration, then the rules that bind several keys.

    Raises InvalidKey with LXD's words (spec/config-keys.md 3, "Validation order")."""
    for name in sorted(config) if profile else ():
        for kind in ("volatile", "image"):
            if name.startswith(f"{kind}."):
                raise InvalidKey(f"{kind.capitalize()} keys can only be set on containers.")
    CONTAINER_KEYS.validate(config)
    _check_allowance(config.get("limits.cpu.allowance", ""))
    _check_kernel_limits(config)
    _check_syscalls(config)
    _check_raw_lxc(config.get("raw.lxc", ""))
    if os.environ.get(UNPRIVILEGED_ONLY) == "true":
        _check_unprivileged(config)


def _check_syscalls(config: Mapping[str, str]) -> None:
    lists = [f"{_SYSCALLS}whitelist", f"{_SYSCALLS}blacklist"]
    switches = [f"{_SYSCALLS}blacklist_default", f"{_SYSCALLS}blacklist_compat"]
    if config.get("raw.seccomp") and (
        any(config.get(name) for name in lists) or any(is_true(config.get(name)) for name in switches)
    ):
        raise InvalidKey("raw.seccomp is mutually exclusive with security.syscalls*")
    if config.get(lists[0]) and (config.get(lists[1]) or any(is_true(config.get(name)) for name in switches)):
        raise InvalidKey("security.syscalls.whitelist is mutually exclusive with security.syscalls.blacklist*")


def _check_allowance(value: str) -> None:
    if value:
        parse_allowance(value)


def parse_allowance(value: str) -> tuple[int, int] | int:
    """`50%` gives 50; `25ms/100ms` gives (25, 100) milliseconds of quota and period. InvalidKey else."""
    if match := _SHARE.fullmatch(value):
        return int(match[1])
    if match := _HARD.fullmatch(value):
        return int(match[1]), int(match[2])
    raise InvalidKey(f"Invalid allowance: {value}")


_SHARE = re.compile(r"([0-9]{1,9})%")
_HARD = re.compile(r"([0-9]{1,9})(?:ms)?/([0-9]{1,9})(?:ms)?")
_KERNEL_LIMIT = re.compile(r"(?:([0-9]+)|unlimited)(?::(?:([0-9]+)|unlimited))?")


def _is_kernel_limit(value: str) -> bool:
    match = _KERNEL_LIMIT.fullmatch(value)
    return match is not None and all(not part or int(part) < 1 << 64 for part in match.groups())


def _check_kernel_limits(config: Mapping[str, str]) -> None:
    """`soft:hard` or one for both; the words are those of LXD when liblxc refuses them."""
    for key, value in config.items():
        if key.startswith("limits.kernel.") and value and not _is_kernel_limit(value):
            raise InvalidKey(f"Failed to set LXC config: lxc.prlimit.{key.removeprefix('limits.kernel.')}={value}")


_REFUSED_RAW = {
    "lxc.logfile": "Setting lxc.logfile is not allowed",
    "lxc.log.file": "Setting lxc.logfile is not allowed",
    "lxc.syslog": "Setting lxc.log.syslog is not allowed",
    "lxc.log.syslog": "Setting lxc.log.syslog is not allowed",
    "lxc.ephemeral": "Setting lxc.ephemeral is not allowed",
}
_LIMITS_WORDS = (
    'Process limits should be set via "limits.kernel.[limit name]" and not directly via "lxc.prlimit.[limit name]"'
)


def _raw_lxc_keys(text: str) -> Iterator[str]:
    """The keys of the lines, in lower case. InvalidKey for a line without one."""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if "=" not in line:
            raise InvalidKey(f"Invalid raw.lxc line: {line}")
        yield line.split("=", 1)[0].strip().lower()


def _check_raw_lxc(text: str) -> None:
    for name in _raw_lxc_keys(text):
        if name in _REFUSED_RAW:
            raise InvalidKey(_REFUSED_RAW[name])
        if name.startswith("lxc.prlimit."):
            raise InvalidKey(_LIMITS_WORDS)
        if name.startswith("lxc.net.") and not _is_address_of_interface(name):
            raise InvalidKey("Only interface-specific ipv4/ipv6 lxc.net. keys are allowed")


def _check_unprivileged(config: Mapping[str, str]) -> None:
    """What would give a container the host's root user is refused."""
    only = "LXD was configured to only allow unprivileged containers"
    if is_true(config.get("security.privileged")):
        raise InvalidKey(only)
    for entry in parse_raw(config.get("raw.idmap", "")):
        if entry.Hostid == 0:
            raise InvalidKey(f"Cannot map root user into container as {only}")
    for name in _raw_lxc_keys(config.get("raw.lxc", "")):
        if name in ("lxc.idmap", "lxc.id_map", "lxc.include"):
            raise InvalidKey(f"{name} can't be set in raw.lxc as {only}")


def _is_address_of_interface(name: str) -> bool:
    parts = name.split(".")
    return (
        len(parts) == 5 and parts[2].isdigit() and parts[3] in ("ipv4", "ipv6") and parts[4] in ("address", "gateway")
    )
