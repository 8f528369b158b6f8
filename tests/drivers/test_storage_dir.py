"""What only the dir driver has: rules for where its pool may be (spec/storage.md 3)."""

from pathlib import Path

import pytest

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.storage.registry import open_pool


async def test_a_directory_with_something_in_it_is_refused_and_kept(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "precious").write_text("x")
    pool = open_pool("dir", tmp_path / "state", "p1", {"source": str(source)})
    with pytest.raises(DriverError, match="The provided directory is not empty"):
        await pool.create()
    assert (source / "precious").read_text() == "x"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("relative", 'invalid "source" property'),
        ("{state}/images", "DIR storage pool requests in LXD directory"),
        ("{state}/storage-pools/../images", "DIR storage pool requests in LXD directory"),
        ("{state}/storage-pools/p2", "are only valid under"),
    ],
)
async def test_other_places_are_refused(tmp_path: Path, source: str, words: str) -> None:
    state = tmp_path / "state"
    pool = open_pool("dir", state, "p1", {"source": source.format(state=state)})
    with pytest.raises(DriverError, match=words):
        await pool.create()
    assert not state.exists()


async def test_a_source_that_is_gone_is_named(tmp_path: Path) -> None:
    pool = open_pool("dir", tmp_path / "state", "p1", {"source": str(tmp_path / "source")})
    with pytest.raises(DriverError, match="does not exist"):
        await pool.mount()


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        ("ext4", r"Invalid value: ext4 \(not one of \[btrfs ceph dir lvm zfs\]\)"),
        ("zfs", "not served by this version"),
    ],
)
def test_a_driver_that_is_not_there_is_named(tmp_path: Path, driver: str, words: str) -> None:
    with pytest.raises(DriverError, match=words):
        open_pool(driver, tmp_path, "p1", {})
