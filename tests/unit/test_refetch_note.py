"""The note that tells a member without its store whom to ask: written whenever that changes, sooner or later."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import trio
import trio.testing

from lxdnode.node.cluster.records import CLUSTER, CLUSTERS, MEMBERS, Cluster, Member
from lxdnode.node.cluster.refetch import keep_note, place_of
from lxdnode.node.documents import Draft
from lxdnode.node.notes import Notes
from lxdnode.raft import machine
from lxdnode.raft.journal import Identity
from lxdnode.raft.log import Log, Watch
from lxdnode.raft.state import State


def _log() -> Log:
    """A log of two members in which nothing more happens."""
    draft = Draft(State())
    draft.put(CLUSTERS, CLUSTER, Cluster(enabled=True))
    for number in (1, 2):
        draft.put(MEMBERS, str(number), Member(number=number, address=f"10.0.0.{number}:8443"))
    state = machine.apply(State(), 1, [draft.transaction("unix:0", "test", 1)]).state
    own = SimpleNamespace(state=state, identity=Identity("c", 1, 1), watch=lambda *_: Watch(set(), frozenset()))
    return cast(Log, own)


async def test_a_note_that_the_disk_did_not_take_is_written_later(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    in_the_way = tmp_path / "notes"
    in_the_way.write_text("")
    notes = Notes(in_the_way)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_note, notes, _log())
        await trio.sleep(1)
        in_the_way.unlink()
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    place = place_of(notes)
    assert place is not None and [one.address for one in place.members] == ["10.0.0.2:8443"]
