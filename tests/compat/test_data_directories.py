"""Data directories of released versions open for ever, with every document readable, and go on from there.

A folder per version: `raft/` of the first of three members (its history is behind its journal, as after a crash), a
`backup` of the same moment, and the digests they had."""

import importlib
import json
import pkgutil
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import lxdnode.node
from lxdnode.node.cluster.records import MEMBERS
from lxdnode.node.documents import Draft, Table, View
from lxdnode.node.history.entries import HIDDEN, ask, find
from lxdnode.node.profiles import rules as profiles
from lxdnode.raft import archive, recovery
from lxdnode.raft.log import Log
from lxdnode.raft.state import State

VERSIONS = sorted(path for path in Path(__file__).parent.iterdir() if (path / "raft").is_dir())


def tables() -> dict[str, Table[Any]]:
    """Every table of records that the program declares."""
    found: dict[str, Table[Any]] = {}
    for module in pkgutil.walk_packages(lxdnode.node.__path__, "lxdnode.node."):
        if module.name.endswith((".records", ".documents")):
            values = vars(importlib.import_module(module.name)).values()
            found |= {value.name: value for value in values if isinstance(value, Table)}
    return found


def read_all(state: State) -> set[str]:
    """Decodes every document; the names of the tables that had some."""
    known = tables()
    view = View(state)
    for name in state.tables:
        for group in state.groups(name):
            for id, record in view.all(known[name], group):
                old = state.get(name, group, id)
                assert old is not None
                kept = msgspec.msgpack.decode(known[name].encode(record, old))
                assert kept == kept | msgspec.msgpack.decode(old.value)
    return set(state.tables)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_every_document_is_read_and_written_without_loss(version: Path) -> None:
    expected = json.loads((version / "expected.json").read_text())
    contents = recovery.read(version / "raft")
    assert (contents.state.digest(), contents.position.index) == (expected["digest"], expected["index"])
    backup = recovery.read_backup((version / "backup").read_bytes())
    assert backup.state.digest() == expected["backup_digest"]
    assert {"members", "profiles", "containers", "pools", "networks", "volumes", "names"} <= read_all(contents.state)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_the_history_is_told_from_its_beginning(version: Path) -> None:
    contents = recovery.read(version / "raft")
    assert contents.disk is not None and next(archive.forwards(contents.disk, 0))
    wanted = ask({"since": "0"}, View(contents.state))
    found = find(contents.disk, wanted, [list(contents.tail)])
    assert found.gaps == []
    assert (found.entries[0].index, found.entries[-1].index) == (2, contents.position.index)
    last = {change.key: change.after for row in found.entries for change in row.changes}
    for table in contents.state.tables:
        for group in contents.state.groups(table):
            for name, document in contents.state.group(table, group).items():
                shown = last[f"{table}/{group}/{name}"]
                assert shown in (HIDDEN, msgspec.msgpack.decode(document.value))


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
async def test_a_log_of_that_version_goes_on(version: Path, tmp_path: Path) -> None:
    shutil.copytree(version / "raft", tmp_path / "raft")
    contents = recovery.read(tmp_path / "raft")
    draft = Draft(contents.state)
    for _id, member in list(draft.all(MEMBERS)):
        alone = msgspec.structs.replace(member, voter=member.number == contents.identity.member)
        draft.put(MEMBERS, str(member.number), alone)
    change = draft.transaction("test", "alone", contents.identity.member)
    recovery.renew(tmp_path / "new", contents, contents.identity.epoch + 1, change)
    async with trio.open_nursery() as nursery:
        log = Log.open(tmp_path / "new")
        await nursery.start(log.run)
        draft = Draft(log.state)
        profiles.replace(draft, "web", "changed by this version", {"user.b": "2"}, {})
        await log.commit(draft.transaction("test", "change", 1))
        assert profiles.find(View(log.state), "web")[1].description == "changed by this version"
        nursery.cancel_scope.cancel()
