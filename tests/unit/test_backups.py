"""Backups of a member that has just started."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from lxdnode.node.containers.backups import Backups
from lxdnode.node.documents import View
from lxdnode.node.notes import Notes
from lxdnode.raft.state import State


async def test_a_tarball_that_comes_early_is_not_taken_for_one_of_the_daemon_before(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    (folder / ".import-before").touch()
    node = SimpleNamespace(
        directory=tmp_path,
        member=1,
        notes=Notes(tmp_path / "notes"),
        store=SimpleNamespace(view=lambda: View(State())),
    )
    backups = Backups(cast(Any, node), cast(Any, None))
    (folder / ".import-early").touch()  # The API answers before the containers are looked after.
    await backups.finish()
    assert [path.name for path in folder.iterdir()] == [".import-early"]
