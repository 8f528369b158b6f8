"""The control groups of this host: which controller is mounted where, and the files of one process's groups.

Owns the difference between version 1 and 2; refuses to compute a path (it is read from /proc/PID/cgroup) and to
know what a limit means (`limits.py` does)."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lxdnode.drivers.errors import DriverError

MOUNTS = Path("/sys/fs/cgroup")
_EMPTY_LIMIT, _EMPTY_PAUSE = 5.0, 0.005


@dataclass(frozen=True)
class Setting:
    """One file of a controller with its value, e.g. `Setting("pids", "pids.max", "100")`."""

    controller: str
    file: str
    value: str


@dataclass(frozen=True)
class Layout:
    """`hierarchies`: mount point of each version 1 hierarchy by controller; `unified`: that of version 2 or None;
    `controllers`: what version 2 controls. A controller is in one of them only."""

    hierarchies: Mapping[str, Path]
    unified: Path | None
    controllers: frozenset[str]

    def version(self, controller: str) -> int | None:
        """1 or 2, or None when this host does not have the controller."""
        if controller in self.hierarchies:
            return 1
        return 2 if controller in self.controllers else None

    def has(self, controller: str, file: str) -> bool:
        """Whether groups of a version 1 controller have a file (memory.memsw.limit_in_bytes is optional)."""
        mount = self.hierarchies.get(controller)
        return mount is not None and (mount / file).exists()

    def mounts(self) -> set[Path]:
        """Each hierarchy once."""
        return set(self.hierarchies.values()) | ({self.unified} if self.unified else set())


def detect(mounts: Path = MOUNTS) -> Layout:
    """The layout below `mounts`: version 2 alone, version 1, or both (hybrid)."""
    if (mounts / "cgroup.controllers").exists():
        return Layout({}, mounts, _words(mounts / "cgroup.controllers"))
    hierarchies: dict[str, Path] = {}
    unified: Path | None = None
    for mount in sorted(mounts.iterdir()) if mounts.is_dir() else ():
        if (mount / "cgroup.controllers").exists():
            unified = mount
        elif mount.is_dir() and not mount.is_symlink():
            hierarchies |= dict.fromkeys(mount.name.split(","), mount)
    controllers = _words(unified / "cgroup.controllers") if unified else frozenset()
    return Layout(hierarchies, unified, controllers - hierarchies.keys())


def _words(path: Path) -> frozenset[str]:
    return frozenset(path.read_text().split())


class Groups:
    """The control groups of a container, by the paths that the kernel gives for its init: read once, as they stay.

    Their names start with `prefix`; an init such as systemd moves itself into a group below them."""

    def __init__(self, layout: Layout, pid: int, prefix: str) -> None:
        self._layout = layout
        self._paths = dict(_paths(layout, pid, prefix))

    @property
    def name(self) -> str:
        """The name of the groups, the same in every hierarchy."""
        return next(iter(self._paths.values())).name

    @cached_property
    def first_version(self) -> list[str]:
        """The groups of version 1, each once."""
        found = (self._paths[controller] for controller in self._layout.hierarchies if controller in self._paths)
        return list(dict.fromkeys(map(str, found)))

    @cached_property
    def second_version(self) -> str | None:
        """The group of version 2."""
        return str(self._paths[""]) if "" in self._paths else None

    def path(self, controller: str, file: str) -> Path | None:
        """The path of a file, or None when the host does not have the controller. "" is version 2's own part."""
        group = self._paths.get(controller)
        return None if group is None else group / file

    def read(self, controller: str, file: str) -> str | None:
        """The text of a file, stripped; None when there is none."""
        group = self._paths.get(controller)
        if group is None:
            return None
        try:
            with open(f"{group}/{file}", "rb", buffering=0) as opened:  # A third of what `Path.read_text` takes.
                return opened.readall().decode().strip()
        except OSError:
            return None

    def write(self, settings: Iterable[Setting]) -> None:
        """Writes limits in the order given. DriverError naming file, value and the kernel's words."""
        for setting in settings:
            path = self.path(setting.controller, setting.file)
            if path is None:
                continue
            try:
                path.write_text(setting.value)
            except OSError as error:
                raise DriverError(f"Failed to set {setting.file} to {setting.value}: {error.strerror}") from None

    def freeze(self, frozen: bool) -> None:
        """Asks the kernel to stop or to continue every process of the group."""
        if self._layout.version("freezer") == 1:
            self.write([Setting("freezer", "freezer.state", "FROZEN" if frozen else "THAWED")])
        else:
            self.write([Setting("", "cgroup.freeze", "1" if frozen else "0")])

    def remove(self, names: Iterable[str]) -> None:
        """Removes groups of this host, see the function `remove`."""
        remove(self._layout, names)

    @property
    def frozen(self) -> bool:
        """Whether every process of the group stands still."""
        if self._layout.version("freezer") == 1:
            return self.read("freezer", "freezer.state") == "FROZEN"
        return "frozen 1" in (self.read("", "cgroup.events") or "").splitlines()


def _paths(layout: Layout, pid: int, prefix: str) -> Iterable[tuple[str, Path]]:
    # What follows our own group's name is the container's to choose, any bytes but a zero.
    for line in os.fsdecode(Path(f"/proc/{pid}/cgroup").read_bytes()).split("\n")[:-1]:
        _, controllers, group = line.split(":", 2)
        below, found, name = group.lstrip("/").rpartition(prefix)
        relative = below + found + name.partition("/")[0]
        if not controllers and layout.unified:
            yield from ((controller, layout.unified / relative) for controller in ("", *layout.controllers))
        for controller in controllers.removeprefix("name=").split(","):
            if controller in layout.hierarchies:
                yield controller, layout.hierarchies[controller] / relative


def remove(layout: Layout, names: Iterable[str]) -> None:
    """Removes groups, and what an aborted start left in them, from every hierarchy. Blocks for up to 5 s while the
    last processes of an aborted start end (version 1 has no event for that). DriverError.

    liblxc refuses a start while one of its groups is there (measured: every start after an aborted one failed)."""
    deadline = time.monotonic() + _EMPTY_LIMIT
    for top in (mount / name for name in names for mount in layout.mounts()):
        for directory, _, _ in os.walk(top, topdown=False):
            _remove_when_empty(Path(directory), deadline)


def _remove_when_empty(directory: Path, deadline: float) -> None:
    while True:
        try:
            directory.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise DriverError(f"Control group {directory} cannot be removed: {error.strerror}") from None
        time.sleep(_EMPTY_PAUSE)
