"""When a member looks for what its history lacks."""

from types import SimpleNamespace
from typing import Any, cast

import trio
import trio.testing

from lxdnode.node.cluster.records import MEMBERS, Member
from lxdnode.node.documents import Draft
from lxdnode.node.errors import Unavailable
from lxdnode.node.history.history import AGAIN, History
from lxdnode.node.peers import Peers
from lxdnode.node.store import Store
from lxdnode.raft.log import Log, Watch
from lxdnode.raft.state import State


class Others:
    """Member 2, which nobody can reach, as member 1 sees it."""

    def __init__(self) -> None:
        self.age = 0.0
        self.looks = 0

    unread = None

    async def request(self, *_arguments: Any) -> None:
        raise Unavailable("it is off")

    async def gaps(self) -> list[tuple[int, int]]:
        self.looks += 1
        return [(1, 9)]

    async def prune(self, _before: float) -> None: ...


async def test_all_files_are_read_again_only_when_who_was_missed_is_heard(
    autojump_clock: trio.testing.MockClock,
) -> None:
    draft, two = Draft(State()), Others()
    for number in (1, 2):
        draft.put(MEMBERS, str(number), Member(number=number))
    store = cast(Store, SimpleNamespace(view=lambda: draft, member=1))
    own = SimpleNamespace(
        past=two, watch=lambda *tables: Watch(set(), frozenset(tables)), liveness=lambda: {2: two.age}
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(History(store, cast(Peers, two)).tend, cast(Log, own))
        await trio.sleep(AGAIN / 2)
        two.age, looks = 1000.0, two.looks
        assert looks > 0
        await trio.sleep(100 * AGAIN)
        assert two.looks == looks
        two.age = 1.0
        await trio.sleep(AGAIN)
        assert two.looks > looks
        nursery.cancel_scope.cancel()
