"""Dialling members: the pinned certificate is the whole check, and every failure says what to do."""

from pathlib import Path

import pytest
import trio

from lxdnode.node import keypair
from lxdnode.node.errors import Unavailable
from lxdnode.node.peers import dial


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
