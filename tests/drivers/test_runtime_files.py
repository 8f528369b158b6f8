"""Files of containers are read and written by paths that never lead out, with owners as the container sees them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lxdnode.drivers.host.idmap import IdMap, host_range
from lxdnode.drivers.runtime.files import Attributes, Root, Status

from .conftest import RuntimeHost

Open = Callable[[], Root]


def write(root: Root, path: str, content: bytes, *, append: bool = False, **attributes: int) -> None:
    """Writes a file."""
    descriptor = root.create(path, Attributes(**attributes), append)
    with open(descriptor, "wb") as file:
        file.write(content)


def read(root: Root, path: str) -> bytes:
    """Reads a file."""
    descriptor, _ = root.open(path)
    with open(descriptor, "rb") as file:
        return file.read()


@pytest.fixture(params=["running", "stopped", "shifted"])
async def opened(request: pytest.FixtureRequest, runtime: RuntimeHost, tmp_path: Path) -> Open:
    """The files of a container that runs on an idmapped root, of the same one stopped, and of a shifted tree."""
    host = host_range()
    assert host is not None
    configuration = runtime.configure()
    if request.param == "running":
        running = await runtime.start(configuration)
        return lambda: Root(Path(f"/proc/{running.init.pid}/root"), configuration.idmap)
    if request.param == "stopped":
        return lambda: Root(configuration.rootfs, ())
    return lambda: Root(_shifted(configuration.rootfs, host.base), host.whole())


def _shifted(rootfs: Path, base: int) -> Path:
    for path in (rootfs, *rootfs.rglob("*")):
        os.chown(path, base, base, follow_symlinks=False)
    return rootfs


async def test_new_files_belong_to_root_unless_said_otherwise(opened: Open) -> None:
    with opened() as root:
        write(root, "/root/plain", b"hello")
        assert root.status("/root/plain") == Status("file", 0, 0, 0o640, 5)
        write(root, "/root/given", b"hello", uid=1000, gid=1001, mode=0o755)
        assert root.status("/root/given") == Status("file", 1000, 1001, 0o755, 5)
        root.make_directory("/root/folder", Attributes())
        assert root.status("/root/folder").mode == 0o750
        write(root, "/root/folder/in", b"")
        assert root.list("/root/folder") == ["in"]


async def test_what_exists_keeps_what_is_not_given(opened: Open) -> None:
    with opened() as root:
        write(root, "/root/file", b"one", uid=5, gid=6, mode=0o600)
        write(root, "/root/file", b"two\n")
        write(root, "/root/file", b"three", append=True, mode=0o644)
        assert root.status("/root/file") == Status("file", 5, 6, 0o644, 9)
        assert read(root, "/root/file") == b"two\nthree"
        root.make_directory("/root", Attributes(uid=7, gid=8))
        assert (root.status("/root").uid, root.status("/root").gid) == (7, 8)


async def test_a_directory_of_another_user_takes_files(opened: Open) -> None:
    with opened() as root:
        root.make_directory("/home/user", Attributes(uid=1000, gid=1000, mode=0o700))
        write(root, "/home/user/mine", b"", uid=1000)
        assert root.status("/home/user/mine").uid == 1000


async def test_links_are_followed_inside_and_never_lead_out(opened: Open) -> None:
    with opened() as root:
        root.make_link("/root/abs", "/etc/passwd", Attributes())
        root.make_link("/root/up", "../../../../../../../../etc/passwd", Attributes())
        root.make_link("/root/host", "/proc/1/root/etc/shadow", Attributes())
        assert root.status("/root/abs").type == "symlink"
        assert root.read_link("/root/up") == "../../../../../../../../etc/passwd"
        root.make_link("/root/folder", "/etc", Attributes())
        assert read(root, "/root/folder/passwd") == read(root, "/etc/passwd")
        assert read(root, "../../../etc/passwd") == read(root, "/etc/passwd")
        write(root, "/root/abs", b"changed\n")
        assert read(root, "/etc/passwd") == b"changed\n"
        with pytest.raises(OSError):  # ELOOP in a running one, ENOENT without a /proc
            write(root, "/root/host", b"")


async def test_deleting(opened: Open) -> None:
    with opened() as root:
        root.make_directory("/root/folder", Attributes())
        write(root, "/root/folder/file", b"")
        with pytest.raises(OSError, match="not empty"):
            root.delete("/root/folder")
        root.delete("/root/folder/file")
        root.delete("/root/folder")
        root.make_link("/root/dangling", "/nowhere", Attributes())
        root.delete("/root/dangling")
        for path in ("/root/folder", "/root/dangling", "/root/never"):
            with pytest.raises(FileNotFoundError):
                root.status(path)


async def test_parents_are_not_made_and_directories_are_not_files(opened: Open) -> None:
    with opened() as root:
        with pytest.raises(FileNotFoundError):
            write(root, "/no/such/parent", b"")
        with pytest.raises(IsADirectoryError):
            write(root, "/root", b"")
        with pytest.raises(NotADirectoryError):
            root.list("/etc/passwd")


async def test_a_pipe_or_device_is_refused_without_waiting(runtime: RuntimeHost) -> None:
    configuration = runtime.configure()
    os.mkfifo(configuration.rootfs / "root/pipe")
    empty: IdMap = ()
    with Root(configuration.rootfs, empty) as root:
        with pytest.raises(OSError, match="Not a regular file"):
            root.open("/root/pipe")
        with pytest.raises(OSError):  # ENXIO: nobody reads
            root.create("/root/pipe", Attributes())
