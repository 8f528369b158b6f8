"""LXD 5.0.2 and lxd-node side by side, for what they give each other."""

import os
from collections.abc import Iterator

import pytest

from lxdnode.drivers.images.busybox import assemble, find_busybox, unified
from tests.harness.daemons import Cluster, Daemon
from tests.harness.lxd import Lxd, find_lxd

POOL = {"name": "default", "driver": "dir"}
PROFILE = {"devices": {"root": {"type": "disk", "path": "/", "pool": "default"}}}


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Daemon]]:
    """LXD and lxd-node, each with a pool, a root disk in the default profile, and the busybox image `bb`."""
    if find_lxd() is None:
        pytest.skip("no lxd on this host")
    folder = tmp_path_factory.mktemp("peers")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o711)
    ours = Cluster(folder / "o", 1, f"lx{os.getpid():x}", "10.97.0")
    theirs = Lxd(folder / "l")
    (folder / "bb.tar.gz").write_bytes(unified(assemble(find_busybox())))
    try:
        ours.start()
        theirs.start()
        for one in (ours[1], theirs):
            one.post("/1.0/storage-pools", POOL)
            one.put("/1.0/profiles/default", PROFILE)
            one.lxc("image", "import", f"{folder}/bb.tar.gz", "--alias", "bb")
        yield {"lxd": theirs, "lxd-node": ours[1]}
    finally:
        theirs.stop()
        ours.stop()
