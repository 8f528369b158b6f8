"""Writes the LXC configuration of a container from plain values.

Owns every `lxc.*` word and the traps of liblxc 5 (group names, limits by the host's layout, the stop hook);
refuses to know profiles, keys and devices: who starts a container has worked them out."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.cgroup import Layout, Setting
from lxdnode.drivers.host.idmap import IdMap

_HOST_MOUNTS = (
    "/dev/fuse",
    "/dev/net/tun",
    "/proc/sys/fs/binfmt_misc",
    "/sys/firmware/efi/efivars",
    "/sys/fs/fuse/connections",
    "/sys/fs/pstore",
    "/sys/kernel/debug",
    "/sys/kernel/security",
)
"""Mounted into every container when the host has them (spec/config-keys.md 3, "Always mounted")."""
_PRIVILEGED_DROPS = "sys_time sys_module sys_rawio"
_POLICY_DROPS = "mac_admin mac_override"
"""Dropped as well unless AppArmor gives the container a policy of its own."""
_PRIVILEGED_DEVICES = (
    "c *:* m",
    "b *:* m",
    *(f"c {numbers} rwm" for numbers in ("1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:1", "5:2", "136:*", "10:229")),
    "c 10:200 rwm",
)
"""Any node may be made; null, zero, full, random, urandom, tty, console, ptmx, pts, fuse and tun may be used."""

_STOP_HOOK = 'echo "$LXC_TARGET" > "$0"; test "$LXC_TARGET" != reboot'
"""Notes whether the container stopped or wants a reboot, and fails for a reboot: then liblxc does not restart it
with the old configuration but ends, and the daemon starts it with the new one. Inline, since nothing is faster."""

PAYLOAD = "lxd-node.payload."
"""How the names of the containers' control groups begin."""


class Nic(msgspec.Struct, frozen=True, tag_field="part"):
    """An interface `name` of the container. veth: a pair, whose end `host_name` outside is joined to the bridge `link`
    unless that is "". macvlan: on top of the host's `link`. phys: the host's `link` itself."""

    name: str
    host_name: str
    link: str
    hwaddr: str
    mtu: str = ""
    type: Literal["veth", "macvlan", "phys"] = "veth"


class Mount(msgspec.Struct, frozen=True, tag_field="part"):
    """A mount of a host path; `path` is the container's; `options` such as `("bind", "ro")`. `owns_target`: the mount
    point goes with it."""

    source: Path
    path: str
    options: tuple[str, ...] = ("bind",)
    owns_target: bool = False


class Access(msgspec.Struct, frozen=True, tag_field="part"):
    """A rule of the control group for devices, such as `c 1:5 rwm`, which only privileged containers need."""

    rule: str


Part = Nic | Mount | Access
"""What a device is to a container that starts or runs."""


def is_for_all(rule: str) -> bool:
    """Whether every container may use the node of a rule such as `c 1:5 rwm`, also without a device of its own."""
    kind, numbers, _ = rule.split()
    every = f"{kind} {numbers.partition(':')[0]}:* rwm"
    return f"{kind} {numbers} rwm" in _PRIVILEGED_DEVICES or every in _PRIVILEGED_DEVICES


@dataclass(frozen=True)
class Configuration:
    """All that a start needs. An empty `idmap` is a privileged container.

    `idmapped`: the root file system's owners are unshifted on disk and the kernel maps them. `group`: name of the
    control groups, unique on this host. `log`, `console`: files that liblxc writes. `stopped`: see `_STOP_HOOK`.
    `mount_hook`: a program that changes the root file system before the start. `apparmor`: the label of its processes,
    "" where there is no AppArmor; `own_policy`: it may load profiles for itself."""

    name: str
    rootfs: Path
    group: str
    log: Path
    console: Path
    stopped: Path
    idmap: IdMap = ()
    idmapped: bool = False
    readonly: bool = False
    nesting: bool = False
    architecture: str = "x86_64"
    seccomp: Path | None = None
    apparmor: str = ""
    own_policy: bool = False
    mount_hook: Path | None = None
    raw: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    kernel_limits: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[Setting, ...] = ()
    parts: tuple[Part, ...] = ()


def render(configuration: Configuration, layout: Layout) -> str:
    """The text of the configuration file. DriverError for a line break in a value."""
    lines = [
        *_base(configuration),
        *([f"lxc.hook.mount = {configuration.mount_hook}"] if configuration.mount_hook else []),
        *_rootfs(configuration),
        *_security(configuration, layout),
        *(f"lxc.environment = {name}={value}" for name, value in configuration.environment.items()),
        *(f"lxc.prlimit.{name} = {value}" for name, value in configuration.kernel_limits.items()),
        *_limits(configuration.limits, layout),
        *_nics(part for part in configuration.parts if isinstance(part, Nic)),
        *_mounts(part for part in configuration.parts if isinstance(part, Mount)),
    ]
    for line in lines:
        if "\n" in line:
            raise DriverError(f"LXC takes no line break in a value: {line!r}")
    return "\n".join([*lines, *configuration.raw.splitlines()]) + "\n"


def _base(configuration: Configuration) -> Iterable[str]:
    container, monitor, pivot = group_names(configuration.group)
    yield f"lxc.log.file = {configuration.log}"
    yield "lxc.log.level = warn"
    yield f"lxc.uts.name = {configuration.name}"
    yield f"lxc.arch = {configuration.architecture}"
    yield "lxc.autodev = 1"
    yield "lxc.tty.max = 0"
    yield "lxc.pty.max = 1024"
    yield f"lxc.console.logfile = {configuration.console}"
    # The log itself is the ring: two files of 128 KiB that turn over. liblxc's own buffer goes with the container, and
    # the binding cannot read it.
    yield "lxc.console.size = auto"
    yield "lxc.console.rotate = 1"
    # Exact names, so that leftovers can be removed before a start; with a common prefix liblxc leaves a group
    # `lxc.pivot` at each stop, and counts up (NAME-1) after an aborted one.
    yield f"lxc.cgroup.dir.container = {container}"
    yield f"lxc.cgroup.dir.monitor = {monitor}"
    yield f"lxc.cgroup.dir.monitor.pivot = {pivot}"
    yield "lxc.hook.version = 1"
    yield f"lxc.hook.post-stop = sh -c {shlex.quote(_STOP_HOOK)} {shlex.quote(str(configuration.stopped))}"


def group_names(group: str) -> tuple[str, str, str]:
    """The control groups of a container, of its monitor and for the monitor's end; none may exist at its start."""
    return (PAYLOAD + group, f"lxd-node.monitor.{group}", f"lxd-node.pivot.{group}")


def _rootfs(configuration: Configuration) -> Iterable[str]:
    options = [
        *(["idmap=container"] if configuration.idmapped and configuration.idmap else []),
        *(["ro"] if configuration.readonly else []),
    ]
    yield f"lxc.rootfs.path = dir:{configuration.rootfs}"
    if options:
        yield f"lxc.rootfs.options = {','.join(options)}"
    yield from (f"lxc.idmap = {line}" for entry in configuration.idmap for line in entry.lxc())
    for path in _HOST_MOUNTS:
        if Path(path).exists():
            kind = "dir" if Path(path).is_dir() else "file"
            yield f"lxc.mount.entry = {path} {path[1:]} none rbind,create={kind},optional 0 0"


def _security(configuration: Configuration, layout: Layout) -> Iterable[str]:
    if configuration.apparmor:
        yield f"lxc.apparmor.profile = {configuration.apparmor}"
    groups = "cgroup:rw:force" if configuration.nesting else "cgroup:mixed"
    if configuration.idmap:
        yield f"lxc.mount.auto = proc:rw sys:rw {groups}"
    else:
        yield f"lxc.mount.auto = proc:mixed sys:mixed {groups}"
        yield f"lxc.cap.drop = {_PRIVILEGED_DROPS}"
        if not configuration.own_policy:
            yield f"lxc.cap.drop = {_POLICY_DROPS}"
        if layout.hierarchies and layout.version("devices") is None:
            return
        prefix = "lxc.cgroup" if layout.version("devices") == 1 else "lxc.cgroup2"
        yield f"{prefix}.devices.deny = a"
        own = (part.rule for part in configuration.parts if isinstance(part, Access))
        yield from (f"{prefix}.devices.allow = {rule}" for rule in (*_PRIVILEGED_DEVICES, *own))
    if configuration.nesting:
        yield "lxc.mount.entry = proc dev/.lxc/proc proc create=dir,optional 0 0"
        yield "lxc.mount.entry = sys dev/.lxc/sys sysfs create=dir,optional 0 0"
    if configuration.seccomp:
        yield f"lxc.seccomp.profile = {configuration.seccomp}"


def _limits(limits: Iterable[Setting], layout: Layout) -> Iterable[str]:
    """Only what this host's layout knows: keys of the other version are silently ignored by liblxc."""
    for setting in limits:
        version = layout.version(setting.controller)
        if version:
            yield f"lxc.cgroup{'' if version == 1 else '2'}.{setting.file} = {setting.value}"


def _nics(nics: Iterable[Nic]) -> Iterable[str]:
    number = -1
    for number, nic in enumerate(nics):
        values = {
            "type": nic.type,
            "flags": "up",
            "link": nic.link,
            "name": nic.name,
            "hwaddr": nic.hwaddr,
            "mtu": nic.mtu,
        }
        if nic.type == "veth":
            values["veth.pair"] = nic.host_name
        elif nic.type == "macvlan":
            values["macvlan.mode"] = "bridge"
        yield from (f"lxc.net.{number}.{key} = {value}" for key, value in values.items() if value)
    if number < 0:
        yield "lxc.net.0.type = empty"


def _mounts(mounts: Iterable[Mount]) -> Iterable[str]:
    for mount in sorted(mounts, key=lambda mount: mount.path):
        kind = "dir" if mount.source.is_dir() else "file"
        source, target = (_escape(text) for text in (str(mount.source), mount.path.lstrip("/")))
        yield f"lxc.mount.entry = {source} {target} none {','.join((*mount.options, f'create={kind}'))} 0 0"


def _escape(text: str) -> str:
    """A path as fstab has it."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in text)
