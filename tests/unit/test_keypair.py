"""Key pairs on the disk: after a power cut there is the old one or the new one; what `save` has written is there."""

import os
import stat
from pathlib import Path

import pytest

from lxdnode.node import keypair


def test_each_name_of_a_pair_is_durable_before_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, synced = os.fsync, list[list[str]]()

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            synced.append(sorted(os.listdir(descriptor)))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    keypair.save(tmp_path, "server", pair := keypair.make())
    assert synced == [
        ["server.new"],
        ["server.key", "server.new"],
        ["server.crt", "server.key", "server.new"],
    ]
    assert keypair.load(tmp_path, "server") == pair
