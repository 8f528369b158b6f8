"""What a container is started with: its documents turned into the plain values of an LXC configuration.

Owns the meaning of keys at a start (spec/config-keys.md 3); refuses to start anything."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from lxdnode.drivers.config.kinds import is_false, is_true
from lxdnode.drivers.devices.registry import root_disk
from lxdnode.drivers.host import nvidia
from lxdnode.drivers.host.apparmor import AppArmor, Confinement
from lxdnode.drivers.host.cgroup import Setting
from lxdnode.drivers.host.idmap import decode
from lxdnode.drivers.runtime.configure import Configuration, Part
from lxdnode.node.containers.expansion import Expanded


class Paths:
    """The files of one container on this host, below the member's state directory."""

    def __init__(self, state: Path, name: str) -> None:
        self.logs = state / "logs" / name
        self.devices = state / "devices" / name
        self.log = self.logs / "lxc.log"
        self.configuration = self.logs / "lxc.conf"
        self.console = self.logs / "console.log"
        self.stopped = self.devices / "stopped"
        self.starting = self.devices / "starting"
        """Is there from the beginning of a start to its end."""
        self.plugged = self.devices / "plugged"
        self.applied = self.devices / "applied"
        self.devlxd = self.devices / "devlxd"
        self.mapped = self.devices / "rootfs"

    def make(self) -> None:
        """Makes the directories."""
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.devices.mkdir(mode=0o711, parents=True, exist_ok=True)

    def forget_run(self) -> None:
        """Removes the notes of a container that has ended, half written ones too."""
        for note in (self.plugged, self.applied, self.starting, *self.devices.glob("*.new")):
            note.unlink(missing_ok=True)

    def remove(self) -> None:
        """Removes what only a container that exists has; logs stay until they expire, or another gets the name."""
        shutil.rmtree(self.devices, ignore_errors=True)

    def forget_logs(self) -> None:
        """Removes the logs of a container of this name that has gone: the next one must not show what it wrote."""
        shutil.rmtree(self.logs, ignore_errors=True)

    def rename(self, new: "Paths") -> None:
        """Moves the logs to another name."""
        if self.logs.exists():
            new.forget_logs()
            self.logs.rename(new.logs)
        self.remove()


def configure(
    found: Expanded,
    paths: Paths,
    rootfs: Path,
    *,
    idmapped: bool,
    limits: Iterable[Setting],
    parts: Iterable[Part],
    apparmor: AppArmor,
) -> Configuration:
    """The configuration of a start. `idmapped`: the kernel maps the root file system's owners. `parts`: what its
    devices are. DriverError."""
    return Configuration(
        name=found.name,
        rootfs=rootfs,
        group=group(found.name, found.id),
        log=paths.log,
        console=paths.console,
        stopped=paths.stopped,
        idmap=decode(found.status.volatile.get("volatile.idmap.next", "")),
        idmapped=idmapped,
        readonly=is_true(root_disk(found.devices)[1].get("readonly")),
        nesting=is_true(found.config.get("security.nesting")),
        architecture=found.container.architecture,
        seccomp=write_seccomp(found.config, paths.devices / "seccomp"),
        apparmor=apparmor.label(found.name),
        own_policy=apparmor.has_stacking,
        raw=found.config.get("raw.lxc", ""),
        mount_hook=nvidia.find_hook() if _has_driver(found.config) else None,
        environment=environment(found.config),
        kernel_limits=keys_below(found.config, "limits.kernel."),
        limits=tuple(limits),
        parts=tuple(parts),
    )


def environment(config: Mapping[str, str]) -> dict[str, str]:
    """The variables of init, and of each command that starts from now on."""
    return (nvidia.ENVIRONMENT if _has_driver(config) else {}) | keys_below(config, "environment.")


def _has_driver(config: Mapping[str, str]) -> bool:
    return is_true(config.get("nvidia.runtime"))


CONFINING = ("raw.apparmor", "security.nesting")
"""The keys whose change alters the profile of a container that runs."""


def confine(name: str, config: Mapping[str, str]) -> Confinement:
    """What AppArmor is to know of a container with an expanded configuration."""
    return Confinement(
        name,
        privileged=is_true(config.get("security.privileged")),
        nesting=is_true(config.get("security.nesting")),
        raw=config.get("raw.apparmor", ""),
    )


def group(name: str, id: str) -> str:
    """The name of a container's control groups, unique on a host that runs several daemons."""
    return f"{name}.{id[:8]}"


def keys_below(config: Mapping[str, str], prefix: str) -> dict[str, str]:
    """The keys that begin with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}


_DEFAULT_POLICY = """\
reject_force_umount
[all]
kexec_load errno 38
open_by_handle_at errno 38
init_module errno 38
finit_module errno 38
delete_module errno 38
"""
_COMPAT = "[%s]\ncompat_sys_rt_sigaction errno 38\nstub_x32_rt_sigreturn errno 38\ncompat_sys_ioctl errno 38\n"


def seccomp_policy(config: Mapping[str, str]) -> str:
    """The policy file of a container, or "" for none (spec/containers.md 16)."""
    if config.get("raw.seccomp"):
        return config["raw.seccomp"]
    prefix = "security.syscalls."
    if config.get(f"{prefix}whitelist"):
        return "2\nwhitelist\n[all]\n" + config[f"{prefix}whitelist"]
    default = _DEFAULT_POLICY if not is_false(config.get(f"{prefix}blacklist_default")) else ""
    compat = _COMPAT % "x86_64" if is_true(config.get(f"{prefix}blacklist_compat")) else ""
    own = config.get(f"{prefix}blacklist", "")
    return f"2\nblacklist\n{default}{compat}{own}" if default or compat or own else ""


def write_seccomp(config: Mapping[str, str], file: Path) -> Path | None:
    """Writes the policy and returns its file; None when there is none."""
    policy = seccomp_policy(config)
    if not policy:
        return None
    file.write_text(policy)
    return file
