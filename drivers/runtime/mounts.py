"""Mounts in running containers: made in and taken from their own mount namespaces.

Owns the kernel's calls on detached mounts and the thread that enters a namespace; refuses to know what is mounted.
Blocks for less than a millisecond: call it from a worker thread."""

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.idmap import of_process
from lxdnode.drivers.host.syscalls import call
from lxdnode.drivers.runtime.configure import Mount
from lxdnode.drivers.runtime.files import Attributes, Root

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_CLONE, _AT_EMPTY_PATH, _AT_RECURSIVE, _AT_FDCWD = 1, 0x1000, 0x8000, -100
_FROM_EMPTY, _TO_EMPTY = 0x4, 0x40
_READ_ONLY, _IDMAP = 0x1, 0x00100000
_PROPAGATION = {"unbindable": 1 << 17, "private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20}
_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000
_DETACH, _NO_FOLLOW = 2, 8
_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace"))


def attach(pid: int, mount: Mount) -> None:
    """Mounts into the container of init `pid`; a mount point that is missing is made. DriverError."""
    try:
        with Root(f"/proc/{pid}/root", of_process(pid)) as root, _tree(mount, pid) as tree:
            _make_target(root, mount)
            with root.at(mount.path) as target:
                _inside(pid, lambda: _put(tree, target, mount))
    except OSError as error:
        raise DriverError(f"{mount.source} cannot be mounted on {mount.path}: {error.strerror}") from None


def detach(pid: int, mount: Mount) -> None:
    """Takes a mount away, also while it is in use; nothing when it has gone already. DriverError."""
    path = PurePosixPath("/", mount.path.lstrip("/"))
    try:
        with Root(f"/proc/{pid}/root", of_process(pid)) as root:
            with root.at(str(path.parent)) as parent:
                _inside(pid, lambda: _unmount(parent, path.name))
            if mount.owns_target:
                with suppress(OSError):
                    root.delete(str(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise DriverError(f"{mount.path} cannot be unmounted: {error.strerror}") from None


@contextmanager
def _tree(mount: Mount, pid: int) -> Iterator[int]:
    """A detached copy of the source's mount, with the options set."""
    recursive = _AT_RECURSIVE if "rbind" in mount.options else 0
    tree = call(_OPEN_TREE, _AT_FDCWD, os.fsencode(mount.source), _CLONE | os.O_CLOEXEC | recursive)
    try:
        flags, propagation = _propagation(mount)
        _change(tree, flags, propagation=_PROPAGATION["private" if propagation == "unbindable" else propagation])
        if "ro" in mount.options:
            _change(tree, recursive, set=_READ_ONLY)
        if "idmap=container" in mount.options and of_process(pid):
            namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _change(tree, recursive, set=_IDMAP, namespace=namespace)
            finally:
                os.close(namespace)
        yield tree
    finally:
        os.close(tree)


def _propagation(mount: Mount) -> tuple[int, str]:
    """(flags, kind) of the propagation that a mount asks for."""
    found = next((one for one in mount.options if one.removeprefix("r") in _PROPAGATION), "private")
    recursive = found.startswith("r") or "rbind" in mount.options
    return _AT_RECURSIVE if recursive else 0, found.removeprefix("r")


def _put(tree: int, target: int, mount: Mount) -> None:
    """Moves the detached mount to its place. One that is unbindable cannot be moved, and becomes so there."""
    call(_MOVE_MOUNT, tree, b"", target, b"", _FROM_EMPTY | _TO_EMPTY)
    flags, propagation = _propagation(mount)
    if propagation == "unbindable":
        _change(tree, flags, propagation=_PROPAGATION[propagation])


def _change(tree: int, flags: int, **values: int) -> None:
    attributes = _Attributes(**values)
    call(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | flags, ctypes.byref(attributes), ctypes.sizeof(attributes))


def _make_target(root: Root, mount: Mount) -> None:
    path = PurePosixPath("/", mount.path.lstrip("/"))
    for parent in list(reversed(path.parents))[1:]:
        if not root.exists(str(parent)):
            root.make_directory(str(parent), Attributes(mode=0o755))
    if root.exists(str(path)):
        return
    if mount.source.is_dir():
        root.make_directory(str(path), Attributes(mode=0o755))
    else:
        os.close(root.create(str(path), Attributes(mode=0o644)))


def _unmount(parent: int, name: str) -> None:
    os.fchdir(parent)  # The thread's own directory: it shares none with the process any more.
    if _libc.umount2(os.fsencode(name), _DETACH | _NO_FOLLOW):
        number = ctypes.get_errno()
        if number != errno.EINVAL:  # It is no mount point: the container was first.
            raise OSError(number, os.strerror(number))


def _inside(pid: int, work: Callable[[], object]) -> None:
    """Does `work` in the mount namespace of a process, in a thread that ends with it: no other work may be done in a
    thread whose root has become the container's. Rejected: a child of the spawner (3 ms, and a protocol)."""
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    failures: list[OSError] = []

    def enter() -> None:
        try:
            if _libc.unshare(_CLONE_FS) or _libc.setns(namespace, _CLONE_NEWNS):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            work()
        except OSError as error:
            failures.append(error)

    try:
        thread = threading.Thread(target=enter, name=f"mount namespace of {pid}")
        thread.start()
        thread.join()
    finally:
        os.close(namespace)
    if failures:
        raise failures[0]
