"""Owners of whole trees, where the kernel maps them by the mount and where files must be changed."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdnode.drivers.host.idmap import Range
from lxdnode.drivers.host.idmapped import can_map
from lxdnode.drivers.host.shift import shift

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners are root's to change")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with files of several owners, a link that leads out, and a set-user-id program."""
    root = tmp_path / "rootfs"
    (root / "home/user").mkdir(parents=True)
    (root / "home/user/file").write_text("x")
    (root / "su").write_text("x")
    (root / "out").symlink_to("/etc/passwd")
    os.chown(root / "home/user", 1000, 1001)
    os.chown(root / "home/user/file", 1000, 1001)
    (root / "su").chmod(0o4755)
    return root


def owners(root: Path) -> dict[str, tuple[int, int, int]]:
    """Owner, group and mode of everything, by relative path."""
    found = {}
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(root))] = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
    return found


def test_a_tree_is_shifted_and_back(tree: Path) -> None:
    before, outside = owners(tree), Path("/etc/passwd").stat()
    entries = Range(500_000, 65_536).whole()
    shift(tree, (), entries)
    assert owners(tree) == {path: (500_000 + uid, 500_000 + gid, mode) for path, (uid, gid, mode) in before.items()}
    shift(tree, entries, ())
    assert owners(tree) == before
    assert Path("/etc/passwd").stat().st_uid == outside.st_uid


def test_a_file_with_two_names_is_shifted_once(tree: Path) -> None:
    (tree / "home/other").hardlink_to(tree / "home/user/file")
    shift(tree, (), Range(500_000, 1_000_000).whole())
    assert owners(tree)["home/other"][:2] == (501_000, 501_001)


@pytest.mark.parametrize("forth", [True, False])
def test_a_shift_that_broke_off_is_finished(tree: Path, forth: bool) -> None:
    entries = Range(500_000, 1_000_000).whole()  # It holds its own host ids: twice shifted is no error.
    old, new = ((), entries) if forth else (entries, ())
    if not forth:
        shift(tree, (), entries)
    before = owners(tree)
    shift(tree / "home/user", old, new)
    shift(tree, old, new, resumed=True)
    move = 500_000 if forth else -500_000
    assert owners(tree) == {path: (uid + move, gid + move, mode) for path, (uid, gid, mode) in before.items()}


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    """A mounted overlay."""
    parts = [tmp_path / name for name in ("lower", "upper", "work", "merged")]
    for part in parts:
        part.mkdir()
    options = f"lowerdir={parts[0]},upperdir={parts[1]},workdir={parts[2]}"
    done = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, parts[3]], capture_output=True)
    if done.returncode:
        pytest.skip(f"no overlay here: {done.stderr.decode().strip()}")
    yield parts[3]
    subprocess.run(["umount", parts[3]], check=True)


def test_the_kernel_is_asked_whether_it_can_map_owners(tmp_path: Path, overlay: Path) -> None:
    assert can_map(Path("/dev/shm"))
    assert can_map(tmp_path)
    assert not can_map(overlay)
