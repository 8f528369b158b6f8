"""What another server may say while a container goes or comes, and what is made of it here."""

from pathlib import Path

import pytest
import trio
import trio.testing

from lxdnode.api.rendering import show_snapshot
from lxdnode.node.containers.migrations import _record
from lxdnode.node.containers.records import CONTAINERS, Container
from lxdnode.node.documents import Draft
from lxdnode.node.errors import NodeError
from lxdnode.node.migration.messages import Header, Snapshot
from lxdnode.node.migration.session import Item, send
from lxdnode.raft.state import State


class Silent:
    """The sockets of a sink that takes what it is sent and says nothing."""

    is_broken = False

    async def get(self, _name: str) -> "Silent":
        return self

    async def receive(self) -> bytes:
        await trio.sleep_forever()

    async def send(self, message: str | bytes) -> None: ...
    async def close(self, code: int = 1000, reason: str = "") -> None: ...
    async def wait_gone(self) -> None: ...


async def test_a_sink_that_does_not_answer_holds_the_source_for_a_while_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with pytest.raises(NodeError, match="did not say within 30 s what it takes"):
        await send(Silent(), Header(), [Item("c", Path("/nowhere"))], print)


@pytest.mark.parametrize("sent", [-(1 << 63), -62135596800, 0, 1 << 40, (1 << 63) - 1])
def test_whatever_date_a_snapshot_comes_with_it_can_be_shown(sent: int) -> None:
    draft = Draft(State())
    draft.put(CONTAINERS, "id", Container(name="c", member=1))
    record = _record(draft, Snapshot("s", created_at=sent, last_used_at=sent))
    assert 1970 <= show_snapshot(draft, "id", record).created_at.year <= 9999
