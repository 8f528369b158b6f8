"""Which logs of containers go, and when."""

import os
from pathlib import Path

import pytest

from lxdnode.node.containers.logs import expire

HOUR = 3600.0
NOW = 1_000_000_000.0


def write(path: Path, age: float) -> None:
    """A log that was written `age` seconds ago, in a directory of the same age."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("line")
    os.utime(path, (NOW - age, NOW - age))
    os.utime(path.parent, (NOW - age, NOW - age))


def left(logs: Path) -> set[str]:
    return {str(path.relative_to(logs)) for path in logs.rglob("*") if path.is_file()}


def test_files_that_nobody_writes_go_after_two_days(tmp_path: Path) -> None:
    write(tmp_path / "c1/exec_1.stdout", 49 * HOUR)
    write(tmp_path / "c1/lxc.conf", 1000 * HOUR)
    write(tmp_path / "c1/lxc.log", 47 * HOUR)
    expire(tmp_path, {"c1"}, NOW)
    assert left(tmp_path) == {"c1/lxc.conf", "c1/lxc.log"}


def test_directories_of_containers_that_are_gone_go_after_one_day(tmp_path: Path) -> None:
    write(tmp_path / "gone/lxc.log", 25 * HOUR)
    write(tmp_path / "just-gone/lxc.log", 23 * HOUR)
    write(tmp_path / "lxd.log", 100 * HOUR)
    expire(tmp_path, set(), NOW)
    assert left(tmp_path) == {"just-gone/lxc.log", "lxd.log"}
    assert not (tmp_path / "gone").exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside / "file", 100 * HOUR)
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "c1").symlink_to(outside)
    expire(logs, set(), NOW)
    assert (outside / "file").exists()
    expire(tmp_path / "nowhere", set(), NOW)


def test_a_file_that_cannot_be_removed_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "c1/lxc.log", 49 * HOUR)
    write(tmp_path / "c2/lxc.log", 49 * HOUR)
    remove = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == "c1":
            raise PermissionError("immutable")
        remove(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    expire(tmp_path, {"c1", "c2"}, NOW)
    assert left(tmp_path) == {"c1/lxc.log"}
