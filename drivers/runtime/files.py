"""Files of a container, running or not, by paths that never lead out of it.

Owns the confinement (openat2 with the root as `/`, no magic links, nothing of the kernel's own is written), and owners
as the container sees them; refuses to follow the last link where a link is meant, and to make parents. Blocks: call it
from a worker thread."""

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lxdnode.drivers.host.idmap import IdMap, to_container, to_host

FILE_MODE = 0o640
DIRECTORY_MODE = 0o750
_OPENAT2 = 437
_RESOLVE_IN_ROOT, _RESOLVE_NO_MAGICLINKS = 0x10, 0x02
_RETRIES = 100
"""openat2 answers EAGAIN when the container renames meanwhile: 2 of 3,000 opens under constant renames."""
_PR_SET_SECUREBITS, _NO_SETUID_FIXUP = 28, 1 << 2
_STATFS_SIZE = 256
_KERNELS = {
    0x9FA0,  # proc
    0x62656572,  # sysfs
    0x27E0EB,  # cgroup
    0x63677270,  # cgroup2
    0x64626720,  # debugfs
    0x74726163,  # tracefs
    0x73636673,  # securityfs
    0xF97CFF8C,  # selinuxfs
    0x5A3C69F0,  # apparmorfs
    0x42494E4D,  # binfmt_misc
    0xCAFE4A11,  # bpf
    0x62656570,  # configfs
    0xDE5E81E4,  # efivarfs
    0x6165676C,  # pstore
    0x65735543,  # fusectl
    0x6E736673,  # nsfs
    0x7655821,  # resctrl
    0x958458F6,  # hugetlbfs
    0x19800202,  # mqueue
    0x1CD1,  # devpts
}
"""Kinds of file systems (statfs) whose files are the kernel's."""
_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@dataclass(frozen=True)
class Status:
    """`type` is file, directory or symlink (devices, sockets and pipes count as files); ids as the container sees
    them; `mode` the nine permission bits; `size` in bytes."""

    type: str
    uid: int
    gid: int
    mode: int
    size: int


@dataclass(frozen=True)
class Attributes:
    """What a writer sets; None leaves what is there, or takes the default for something new."""

    uid: int | None = None
    gid: int | None = None
    mode: int | None = None


class Root:
    """The file tree of a container, e.g. `Root(Path("/proc/4711/root"), idmap)`; close it (a context manager).

    `entries` maps the owners that are seen at that path: the container's map when it runs, the map that is on
    disk when it does not (the empty one when nothing is shifted)."""

    def __init__(self, path: Path | str, entries: IdMap) -> None:
        self._descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._entries = entries

    def __enter__(self) -> "Root":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def exists(self, path: str) -> bool:
        """Whether something is at `path`, links followed."""
        try:
            with self.at(path):
                return True
        except OSError:
            return False

    @contextmanager
    def at(self, path: str) -> Iterator[int]:
        """A descriptor that names what is at `path`, links followed, and opens nothing."""
        with self._at(path, os.O_PATH) as descriptor:
            yield descriptor

    def status(self, path: str) -> Status:
        """What is at `path`, a link at its end not followed. FileNotFoundError."""
        with self._at(path, os.O_PATH | os.O_NOFOLLOW) as descriptor:
            return self._status(descriptor)

    def _status(self, descriptor: int) -> Status:
        found = os.fstat(descriptor)
        kinds = {stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
        uid, gid = to_container(self._entries, found.st_uid, found.st_gid)
        kind = kinds.get(stat.S_IFMT(found.st_mode), "file")
        return Status(kind, uid, gid, found.st_mode & 0o777, found.st_size)

    def read_link(self, path: str) -> str:
        """The target of a link."""
        with self._at(path, os.O_PATH | os.O_NOFOLLOW) as descriptor:
            return os.readlink("", dir_fd=descriptor)

    def list(self, path: str) -> list[str]:
        """The names in a directory, without `.` and `..`."""
        with self._at(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW) as descriptor:
            return os.listdir(descriptor)  # noqa: PTH208  (Path takes no descriptor)

    def open(self, path: str) -> tuple[int, Status]:
        """A descriptor for reading a file, and its status; the caller closes it. A device or pipe is refused."""
        descriptor = self._open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "Not a regular file", path)
        return descriptor, self._status(descriptor)

    def create(self, path: str, attributes: Attributes, append: bool = False) -> int:
        """A descriptor for writing a file, emptied or at its end; made when missing, a link at its end followed.

        A new one belongs to root with mode 0640 unless said otherwise; one that exists keeps what is not given."""
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC)
        self._owner(attributes)  # For its refusal, before anything is made or emptied.
        try:
            with self.at(path) as found:
                _refuse_the_kernels(found, path)
                descriptor, new = os.open(f"/proc/self/fd/{found}", flags), False
        except FileNotFoundError:
            with self._as_root():
                descriptor, new = self._open(path, flags | os.O_CREAT, FILE_MODE), True
        try:
            _refuse_the_kernels(descriptor, path)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "Not a regular file", path)
            self._set(descriptor, attributes, FILE_MODE if new else None)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def make_directory(self, path: str, attributes: Attributes) -> None:
        """Makes a directory (root's, mode 0750 unless said otherwise), or sets the owner of one that is there."""
        self._owner(attributes)
        if PurePosixPath("/" + path).name in ("", ".."):
            self._require_directory(path)
            return
        with self._parent(path) as (parent, name):
            try:
                with self._as_root():
                    os.mkdir(name, DIRECTORY_MODE, dir_fd=parent)
                mode: int | None = DIRECTORY_MODE
            except FileExistsError:
                mode = None
            try:
                descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            except NotADirectoryError:
                self._require_directory(path)
                return
            try:
                self._set(descriptor, attributes, mode)
            finally:
                os.close(descriptor)

    def _require_directory(self, path: str) -> None:
        """FileExistsError unless a link at `path` leads to a directory, which stays as it is."""
        with self.at(path) as found:
            if not stat.S_ISDIR(os.fstat(found).st_mode):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)

    def make_link(self, path: str, target: str, attributes: Attributes) -> None:
        """Makes a symbolic link; what is there already is left as it is."""
        owner = self._owner(attributes)
        with self._parent(path) as (parent, name):
            try:
                with self._as_root():
                    os.symlink(target, name, dir_fd=parent)
            except FileExistsError:
                return
            os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)

    def delete(self, path: str) -> None:
        """Removes a file, a link or an empty directory. FileNotFoundError, or OSError for a full directory."""
        directory = self.status(path).type == "directory"
        with self._parent(path) as (parent, name):
            (os.rmdir if directory else os.unlink)(name, dir_fd=parent)

    def _owner(self, attributes: Attributes) -> tuple[int, int]:
        """The host's ids of the owner, root's where none is given. DriverError for ids that the container has not."""
        return to_host(self._entries, attributes.uid or 0, attributes.gid or 0)

    def _set(self, descriptor: int, attributes: Attributes, default_mode: int | None) -> None:
        new = default_mode is not None
        uid = 0 if new and attributes.uid is None else attributes.uid
        gid = 0 if new and attributes.gid is None else attributes.gid
        mode = default_mode if attributes.mode is None else attributes.mode
        if uid is not None or gid is not None:
            host = self._owner(attributes)
            os.fchown(descriptor, -1 if uid is None else host[0], -1 if gid is None else host[1])
        if mode is not None:
            os.fchmod(descriptor, mode & 0o777)

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        pure = PurePosixPath("/" + path)
        if pure.name in ("", ".."):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        with self._at(str(pure.parent), os.O_PATH | os.O_DIRECTORY) as parent:
            _refuse_the_kernels(parent, path)
            yield parent, pure.name

    @contextmanager
    def _at(self, path: str, flags: int) -> Iterator[int]:
        descriptor = self._open(path, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open(self, path: str, flags: int, mode: int = 0) -> int:
        how = _How(flags | os.O_CLOEXEC, mode, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        name = os.fsencode(path or "/")
        for _ in range(_RETRIES):
            found = _libc.syscall(_OPENAT2, self._descriptor, name, ctypes.byref(how), ctypes.sizeof(how))
            if found >= 0:
                return int(found)
            number = ctypes.get_errno()
            if number != errno.EAGAIN:
                break
        raise OSError(number, os.strerror(number), path)

    @contextmanager
    def _as_root(self) -> Iterator[None]:
        """Creates as the container's root: the host's root has no id in a container's file systems, and would get
        EOVERFLOW. The thread keeps its capabilities, so that no directory is closed to it."""
        if not self._entries:
            yield
            return
        uid, gid = to_host(self._entries, 0, 0)
        _libc.prctl(_PR_SET_SECUREBITS, _NO_SETUID_FIXUP, 0, 0, 0)
        _libc.setfsgid(gid)
        _libc.setfsuid(uid)
        try:
            yield
        finally:
            _libc.setfsuid(0)
            _libc.setfsgid(0)
            _libc.prctl(_PR_SET_SECUREBITS, 0, 0, 0, 0)


def _refuse_the_kernels(descriptor: int, path: str) -> None:
    """PermissionError for what is no file but the kernel's ear (/proc/sysrq-trigger, binfmt_misc): it would obey us as
    the host's root, and any path can lead there by a link that the container has set."""
    found = ctypes.create_string_buffer(_STATFS_SIZE)
    if _libc.fstatfs(descriptor, found):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    if int.from_bytes(found.raw[:8], sys.byteorder) in _KERNELS:
        raise PermissionError(errno.EPERM, "A file of the kernel's own, which is not written here", path)
