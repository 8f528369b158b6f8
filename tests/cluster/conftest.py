"""Fixtures of the cluster tests: daemons in network namespaces, and an image for them.

A module shares one server or cluster, since making one takes seconds; each test names what it makes after itself."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdnode.drivers.images.busybox import assemble, find_busybox, unified
from tests.harness.daemons import PASSWORD, Cluster, Daemon
from tests.harness.namespaces import Host

PREFIX = f"lt{os.getpid():x}"
"""Of the namespaces: two runs of the tests at a time do not meet."""
POOL = {"name": "default", "driver": "dir"}
BRIDGE = {
    "name": "lxdbr0",
    "type": "bridge",
    "config": {"ipv4.address": "10.95.0.1/24", "ipv4.nat": "true", "ipv6.address": "none"},
}
PROFILE = {
    "name": "default",
    "devices": {
        "root": {"type": "disk", "path": "/", "pool": "default"},
        "eth0": {"type": "nic", "nictype": "bridged", "parent": "lxdbr0", "name": "eth0"},
    },
}


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A state directory with a short path (sockets allow 108 bytes) that the root users of containers may enter."""
    path = Path(tempfile.mkdtemp(prefix="lxdn-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(directory: Path) -> Iterator[Cluster]:
    """Three members with a pool, a bridge and the default profile."""
    made = Cluster(directory / "c", 3, PREFIX + "c")
    try:
        yield made.start().form(storage_pools=[POOL], networks=[BRIDGE], profiles=[PROFILE])
    finally:
        made.stop()


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Daemon]:
    """One server that is not clustered, in a namespace of its own, with a pool, a bridge and the default profile."""
    made = Cluster(directory / "s", 1, PREFIX + "s", "10.96.0")
    try:
        made.start()
        member = made[1]
        member.patch("/1.0", {"config": {"core.https_address": member.address, "core.trust_password": PASSWORD}})
        member.post("/1.0/storage-pools", POOL)
        member.post("/1.0/networks", BRIDGE)
        member.put("/1.0/profiles/default", PROFILE)
        yield member
    finally:
        made.stop()


@pytest.fixture(scope="session")
def image() -> bytes:
    """The busybox image as one tarball."""
    return unified(assemble(find_busybox()))


def host_of(member: Daemon) -> Host:
    """The namespace of a member."""
    assert member.host is not None
    return member.host
