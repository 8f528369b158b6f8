"""Fixtures of the cluster tests: daemons in network namespaces, and an image for them.

A module shares one server or cluster, since making one takes seconds; each test names what it makes after itself."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdnode.drivers.images.busybox import assemble, find_busybox, unified
from tests.harness.boxes import Box, Make, boxes
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


@pytest.fixture(scope="module")
def fingerprint(server: Daemon, image: bytes) -> str:
    """The busybox image, on the server."""
    return _added(server, image)


@pytest.fixture(scope="module")
def cluster_fingerprint(cluster: Cluster, image: bytes) -> str:
    """The busybox image, in the cluster."""
    return _added(cluster[1], image)


def _added(member: Daemon, image: bytes) -> str:
    found: str = member.ask("POST", "/1.0/images", image)["metadata"]["fingerprint"]
    return found


@pytest.fixture
def make(cluster: Cluster, cluster_fingerprint: str) -> Iterator[Make]:
    """Makes running containers, whose devices come and go."""
    with boxes(cluster, cluster_fingerprint) as create:
        yield create


@pytest.fixture(params=[False, True], ids=["unprivileged", "privileged"])
def either(request: pytest.FixtureRequest, make: Make) -> Box:
    """Such a container, once of each kind."""
    return make(config={"security.privileged": str(request.param).lower()})


def host_of(member: Daemon) -> Host:
    """The namespace of a member."""
    assert member.host is not None
    return member.host
