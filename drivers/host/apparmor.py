"""AppArmor: the profile that confines a container, generated for each one (spec/containers.md 16).

Owns the rules, what the kernel offers, and loading and unloading; refuses to know configuration keys and when a
container starts. A profile grants all that the kernel mediates and then refuses what reaches beyond a container."""

import contextlib
import hashlib
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lxdnode.drivers import command
from lxdnode.drivers.errors import DriverError

_ENABLED = Path("/sys/module/apparmor/parameters/enabled")
_SECURITY = Path("/sys/kernel/security/apparmor")
_NAMESPACES = _SECURITY / "policy/namespaces"
_PARSE_LIMIT = 60.0
_LONGEST_STATE = 245
_PLAIN = re.compile(r"[A-Za-z0-9/._+=~-]+")
"""State directories that can stand in the name of a profile as they are: no sign of the rules' patterns among them."""


def _other_than(*names: str) -> str:
    """A pattern for every name of a file but these; AppArmor has no word for "not". `dom*`: but all that begin so."""
    whole = [name for name in names if not name.endswith("*")]
    begun = [name.removesuffix("*") for name in names]
    beginnings = sorted({name[:length] for name in begun for length in range(len(name))})
    found = [f"{name}?*" for name in whole]
    for beginning in beginnings:
        following = {name[len(beginning)] for name in begun if name.startswith(beginning) and name != beginning}
        found.append(f"{beginning}[^{''.join(sorted(following))}/]*")
        found += [beginning] if beginning else []
    return f"{{{','.join(found)}}}"


_FOREIGN = "configfs debugfs devtmpfs efivarfs pstore securityfs tracefs"
"""File systems that are the host's, whoever mounts them."""
_SWITCHES = (
    "proc/sysrq-trigger",
    "proc/{kcore,kmem,mem}",
    "proc/acpi/**",
    "proc/sys/{abi,debug,dev,vm}/**",
    f"proc/sys/fs/{_other_than('binfmt*', 'mq*')}{{,/**}}",
    f"proc/sys/kernel/{_other_than('dom*', 'host*', 'msg*', 'ns_*', 'sem*', 'shm*')}{{,/**}}",
    "sys/{block,bus,dev,firmware,hypervisor,module,power}/**",
    f"sys/fs/{_other_than('cgroup', 'fuse')}{{,/**}}",
    f"sys/kernel/{_other_than('security')}{{,/**}}",
    f"sys/kernel/security/{_other_than('apparmor')}{{,/**}}",
)
"""Files of the host's kernel in a container's /proc and /sys: what belongs to no namespace, wherever it is mounted."""


@dataclass(frozen=True)
class Kernel:
    """What this host's kernel offers. `stacking`: a container may have policy of its own below its profile."""

    stacking: bool
    cgroup_namespaces: bool


@dataclass(frozen=True)
class Confinement:
    """What the rules for a container depend on. `raw`: lines of the administrator, which end its profile."""

    name: str
    privileged: bool = False
    nesting: bool = False
    raw: str = ""


@dataclass(frozen=True)
class Names:
    """Names in the kernel, unique on a host of several daemons. `namespace` holds the container's own policy."""

    profile: str
    namespace: str


def names(container: str, state: Path) -> Names:
    """The names for a container of the daemon whose state directory is `state` (spec/config-keys.md)."""
    if len(str(state)) > _LONGEST_STATE or not _PLAIN.fullmatch(str(state)):
        state = Path(hashlib.sha256(str(state).encode()).hexdigest())
    return Names(f"lxd-{container}_<{state}>", f"lxd-{container}_<{str(state).strip('/').replace('/', '-')}>")


def detect() -> Kernel | None:
    """What the kernel offers, or None where no profile can be loaded: AppArmor is off, its tool is missing, this
    process is confined itself, or /sys does not show it."""
    current = Path("/proc/self/attr/current")
    with contextlib.suppress(OSError):
        if (
            _ENABLED.read_text().strip() == "Y"
            and (_SECURITY / ".replace").exists()
            and current.read_text().strip("\0\n") == "unconfined"
            and shutil.which("apparmor_parser")
        ):
            stacking = (_SECURITY / "features/domain/stack").read_text().strip() == "yes"
            return Kernel(stacking and _NAMESPACES.exists(), Path("/proc/self/ns/cgroup").exists())
    return None


def render(confinement: Confinement, named: Names, kernel: Kernel) -> str:
    """The text of a profile."""
    lines = [
        *_base(named.profile),
        # Without the namespace every hierarchy shows the groups of all containers.
        *(() if kernel.cgroup_namespaces else ("deny mount fstype=(cgroup cgroup2),",)),
        *(_own_policy(named.namespace) if kernel.stacking else ("deny /{,**/}sys/kernel/security/** wkl,",)),
        *(() if confinement.nesting or not confinement.privileged else _plain_mounts()),
        *confinement.raw.splitlines(),
    ]
    body = "".join(f"  {line}\n" for line in lines)
    return f'profile "{named.profile}" flags=(attach_disconnected,mediate_deleted) {{\n{body}}}\n'


def _base(profile: str) -> Iterable[str]:
    yield from (
        f"{kind}," for kind in ("capability", "dbus", "file", "mount", "network", "pivot_root", "umount", "unix")
    )
    yield "signal (receive),"
    yield "ptrace (readby, tracedby),"
    yield f'signal (send) peer="{profile}",'
    yield f'ptrace (read, trace) peer="{profile}",'
    for path in _SWITCHES:
        yield f"deny /{{,**/}}{path} wkl,"


def _own_policy(namespace: str) -> Iterable[str]:
    """The container's root loads profiles into its own namespace and confines its processes with them."""
    for form in (f":{namespace}:*", f":{namespace}://*"):
        yield f'change_profile -> "{form}",'
        yield f'signal (send) peer="{form}",'
        yield f'ptrace (read, trace) peer="{form}",'


def _plain_mounts() -> Iterable[str]:
    """What a privileged container mounts cannot rename the trees that rules of files name, and is not the host's.

    Against accidents: who is root on the host's ids finds another way. Unprivileged ones are held by the kernel, which
    lets a user namespace mount nothing of the host's; nesting needs all of it."""
    yield f"deny mount fstype=({_FOREIGN}),"
    for tree, kind in (("proc", "proc"), ("sys", "sysfs")):
        elsewhere = f"/{{,**/}}{_other_than(tree)}/"
        yield f"deny mount fstype={kind} -> {elsewhere},"
        for way in ("bind", "rbind", "move"):
            yield f"deny mount options=(rw {way}) /{{,**/}}{tree}/ -> {elsewhere},"


class AppArmor:
    """The profiles of the containers of the daemon with state directory `state`. Where the kernel has no AppArmor there
    are none, and nothing is done."""

    def __init__(self, state: Path) -> None:
        self._kernel = detect()
        self._state = state
        self._folder = state / "security/apparmor"

    @property
    def has_stacking(self) -> bool:
        """Whether a container may have policy of its own below its profile."""
        return self._kernel is not None and self._kernel.stacking

    def label(self, container: str) -> str:
        """What liblxc is to confine a container with; "" where there is no AppArmor."""
        if self._kernel is None:
            return ""
        named = names(container, self._state)
        return named.profile + (f"//&:{named.namespace}:" if self._kernel.stacking else "")

    async def check(self, confinement: Confinement) -> None:
        """Refuses what does not parse. DriverError with the parser's words."""
        if self._kernel is not None:
            await parse(render(confinement, names(confinement.name, self._state), self._kernel))

    async def load(self, confinement: Confinement) -> None:
        """Puts a profile in force, also for processes that run under an older one of its name. DriverError: the older
        one stays."""
        if self._kernel is None:
            return
        named, file = names(confinement.name, self._state), self._file(confinement.name)
        text, cache = render(confinement, named, self._kernel), self._folder / "cache"
        if not file.exists() or file.read_text() != text:
            await parse(text)
            for folder in (file.parent, cache):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.write_text(text)
        if self._kernel.stacking:
            (_NAMESPACES / named.namespace).mkdir(exist_ok=True)
        loading = ("apparmor_parser", "--replace", "--write-cache", "--cache-loc", cache, file)
        await command.run(*loading, timeout=_PARSE_LIMIT)

    def unload(self, container: str) -> None:
        """Takes the profile of a container that has ended, and what it loaded itself, out of the kernel; nothing when
        they are not there. Blocks for some ms."""
        if self._kernel is None:
            return
        named = names(container, self._state)
        with contextlib.suppress(FileNotFoundError):
            (_SECURITY / ".remove").write_text(named.profile)
        with contextlib.suppress(FileNotFoundError):
            (_NAMESPACES / named.namespace).rmdir()

    def remove(self, container: str) -> None:
        """Removes the files of a container's profile."""
        self._file(container).unlink(missing_ok=True)
        for cached in (self._folder / "cache").glob(f"*/lxd-{container}"):
            cached.unlink()

    def _file(self, container: str) -> Path:
        return self._folder / "profiles" / f"lxd-{container}"


async def parse(text: str) -> None:
    """Compiles the text of a profile and forgets it. DriverError with the parser's words."""
    try:
        await command.run(
            "apparmor_parser", "--skip-kernel-load", "--skip-cache", stdin=text.encode(), timeout=_PARSE_LIMIT
        )
    except DriverError as error:
        raise DriverError(f"The AppArmor profile is refused: {error}") from None
