"""Dialling members: the pinned certificate is the whole check, and every failure says what to do."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from lxdnode.node import keypair
from lxdnode.node.cluster.records import MEMBERS, Member
from lxdnode.node.documents import Draft
from lxdnode.node.errors import NodeError, Unavailable
from lxdnode.node.http import request
from lxdnode.node.peers import Peers, dial
from lxdnode.node.store import Store
from lxdnode.raft.state import State


@pytest.mark.parametrize("address", ["", "192.0.2.1", "192.0.2.1:x"])
async def test_a_member_without_a_usable_address_is_unreachable_in_words(tmp_path: Path, address: str) -> None:
    with pytest.raises(Unavailable, match="is not host:port: set the member's core.https_address"):
        await dial(tmp_path, address, {"00"})


async def test_a_port_where_nobody_listens_is_unreachable_at_once(tmp_path: Path) -> None:
    keypair.load_or_make(tmp_path, "server")
    with trio.fail_after(2), pytest.raises(Unavailable, match=r"^Unable to connect to: 127\.0\.0\.1:1: "):
        await dial(tmp_path, "127.0.0.1:1", {"00"})


async def test_a_name_that_is_none_is_unreachable_and_raises_nothing_else(tmp_path: Path) -> None:
    keypair.load_or_make(tmp_path, "server")
    with pytest.raises(Unavailable, match=r"^Unable to connect to: a\.\.b:8443: "):
        await dial(tmp_path, "a..b:8443", {"00"})


async def test_who_goes_before_the_request_is_out_is_an_error_of_ours() -> None:
    near, far = trio.testing.memory_stream_pair()
    await far.aclose()
    with pytest.raises(NodeError, match="the connection to the server broke"):
        await request(near, "GET", "/1.0")


async def test_files_that_are_missing_here_make_others_unreachable(tmp_path: Path) -> None:
    draft = Draft(State())
    draft.put(MEMBERS, "2", Member(number=2, name="two", address="127.0.0.1:1"))
    peers = Peers(tmp_path, cast(Store, SimpleNamespace(view=lambda: draft)))
    with pytest.raises(Unavailable, match=r"cluster\.crt"):
        await peers.connect(2)


async def test_a_key_that_cannot_be_read_here_makes_others_unreachable(tmp_path: Path) -> None:
    (tmp_path / "server.crt").write_text("no certificate")
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        with pytest.raises(Unavailable, match=r"^Unable to connect to: 127\.0\.0\.1:"):
            await dial(tmp_path, f"127.0.0.1:{listener.socket.getsockname()[1]}", {"00"})
