"""pysyncobj is used exactly as it was read: its source, the names that we touch, and the parts never reached."""

import hashlib
import re
from pathlib import Path
from typing import Any, NoReturn

import pysyncobj.transport
import pytest
from pysyncobj import journal as library_journal
from pysyncobj import serializer, syncobj
from pysyncobj.version import VERSION

from lxdnode.raft import core
from lxdnode.raft.transaction import Put
from tests.harness.changes import transaction
from tests.harness.lone import Lone
from tests.harness.simulation import World
from tests.harness.storm import Storm

SOURCE = Path(syncobj.__file__)


def test_the_source_is_the_one_that_was_read() -> None:
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    assert (VERSION, digest) == ("0.3.17", "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4")


def test_private_names_stand_in_the_core_alone_and_exist() -> None:
    folder = Path(core.__file__).parent
    users = {path.name for path in folder.glob("*.py") if "_SyncObj__" in path.read_text()}
    assert users == {"core.py"}
    names = set(re.findall(r"_SyncObj__(\w+)", Path(core.__file__).read_text())) - {"raft"}
    source = SOURCE.read_text()
    assert {name for name in names if f"self.__{name}" not in source} == set()
    for name in ("NextIndex", "MatchIndex"):
        assert f"self.__raft{name}" in source


def _forbid(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    def reached(*arguments: Any, **named: Any) -> NoReturn:
        raise RuntimeError(f"{owner}.{name} was reached")

    monkeypatch.setattr(owner, name, reached)


def test_what_we_do_not_trust_is_never_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults 7, 13, 14, 15, 16, 17, 19 and 20: its snapshots, callbacks, transmissions, membership, files and clock."""
    for name in ("serialize", "deserialize", "getTransmissionData", "setTransmissionData"):
        _forbid(monkeypatch, serializer.Serializer, name)
    mangled = ("doApplyCommand", "loadDumpFile", "doChangeCluster", "changeCluster", "updateClusterConfiguration")
    for name in mangled:
        _forbid(monkeypatch, syncobj.SyncObj, f"_SyncObj__{name}")
    for owner in (library_journal.FileJournal, library_journal.MemoryJournal, pysyncobj.transport.TCPTransport):
        _forbid(monkeypatch, owner, "__init__")
    _forbid(monkeypatch, syncobj.time, "sleep")
    world = World(seed=4711)
    world.found(3)
    Storm(world).rage(6)
    world.settle()
    assert world.snapshots or len(world.acknowledged) > 100


def test_pickle_is_refused() -> None:
    for name in ("loads", "dumps", "load"):
        with pytest.raises(RuntimeError, match="pickle"):
            getattr(syncobj.pickle, name)(b"")


def test_time_stands_still_during_a_step() -> None:  # fault 20
    lone = Lone()
    lone.step(1.0)
    assert syncobj.monotonicTime() == lone.now


def test_an_apply_that_fails_ends_the_member_and_skips_nothing(monkeypatch: pytest.MonkeyPatch) -> None:  # fault 7
    lone = Lone(voters=(1,))
    applied = lone.driver.core.applied

    def fail(index: int, command: bytes) -> NoReturn:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(lone.driver.core, "_apply_entry", fail)
        with pytest.raises(MemoryError):
            lone.propose()
    assert lone.driver.core.applied == applied
    lone.lose_power()
    lone.wait(0.1)
    assert lone.driver.state.get("t", "", "n") is not None


def test_an_entry_of_nearly_a_megabyte_arrives_whole() -> None:  # fault 16

    world = World(seed=3)
    world.found(3)
    value = bytes(range(256)) * 1900
    for number in range(3):
        state = world.members[1].running.state
        world.commit(1, transaction(state, 1, writes=(Put("t", "", str(number), value),)))
    world.run(2.0)
    for member in world.members.values():
        for number in range(3):
            document = member.running.state.get("t", "", str(number))
            assert document is not None
            assert document.value == value


def test_a_snapshot_is_sent_in_few_messages() -> None:  # fault 17
    world = World(seed=5)
    world.found(3)
    world.run(2.0)
    storm = Storm(world)
    world.kill(3)
    storm.rage(4, faults=False)
    sent: list[str] = []
    transmit = world.transmit

    def counted(sender: int, to: int, message: dict[str, Any]) -> None:
        if to == 3:
            sent.append(message["type"])
        transmit(sender, to, message)

    world.transmit = counted  # type: ignore[method-assign]
    world.start(3)
    world.run(3.0)
    assert world.snapshots == 1
    assert sent.count("snapshot") <= 3
    assert len(sent) < 200
