"""Images between LXD 5.0.2 and lxd-node, each as the server from which the other downloads."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdnode.drivers.images import busybox
from tests.compat.conftest import POOL, PROFILE
from tests.harness.daemons import ApiError, Cluster, Daemon
from tests.harness.lxd import Lxd, find_lxd

pytestmark = pytest.mark.slow

IMAGES = "/1.0/images"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Daemon]]:
    """LXD and lxd-node on one switch."""
    if find_lxd() is None:
        pytest.skip("no lxd on this host")
    folder = tmp_path_factory.mktemp("images")
    ours, theirs = Cluster(folder / "o", 1, f"li{os.getpid():x}", "10.97.1"), Lxd(folder / "l")
    try:
        ours.start()
        theirs.start()
        address = ours.switch.plug(theirs.inside()[0], 9)
        for one, at in ((ours[1], ours[1].address), (theirs, f"{address}:8443")):
            one.post("/1.0/storage-pools", POOL)
            one.put("/1.0/profiles/default", PROFILE)
            one.patch("/1.0", {"config": {"core.https_address": at}})
        yield {"lxd": theirs, "lxd-node": ours[1]}
    finally:
        theirs.stop()
        ours.stop()


@pytest.mark.parametrize(("source", "target"), [("lxd", "lxd-node"), ("lxd-node", "lxd")], ids=["from LXD", "to LXD"])
@pytest.mark.parametrize("kind", ["unified", "split", "private"])
def test_an_image_is_downloaded(
    servers: dict[str, Daemon], tmp_path: Path, source: str, target: str, kind: str
) -> None:
    one, other, parts = servers[source], servers[target], busybox.assemble(busybox.find_busybox())
    halves = busybox.split(parts, squashfs=True) if kind == "split" else (busybox.unified(parts),)
    files = [tmp_path / str(number) for number in range(len(halves))]
    for file, half in zip(files, halves, strict=True):
        file.write_bytes(half)
    public = [] if kind == "private" else ["--public"]
    one.lxc("image", "import", *map(str, files), "--alias", "bb", "note=x", *public)
    fingerprint = one.get(f"{IMAGES}/aliases/bb")["target"]
    told = one.get("/1.0")["environment"]
    wanted = {
        "type": "image",
        "mode": "pull",
        "protocol": "lxd",
        "server": f"https://{told['addresses'][0]}",
        "certificate": told["certificate"],
        "alias": "bb",
    }
    if kind == "private":
        with pytest.raises(ApiError, match="(?i)not found"):
            other.post(IMAGES, {"source": wanted})
        _status, _headers, body = one.request("POST", f"{IMAGES}/{fingerprint}/secret")
        secret = json.loads(body)["metadata"]["metadata"]["secret"]
        wanted |= {"alias": "", "fingerprint": fingerprint, "secret": secret}
    assert other.post(IMAGES, {"source": wanted})["metadata"]["fingerprint"] == fingerprint
    shown, here = other.get(f"{IMAGES}/{fingerprint}"), one.get(f"{IMAGES}/{fingerprint}")
    same = ("size", "architecture", "properties", "created_at", "expires_at", "filename")
    assert {name: shown[name] for name in same} == {name: here[name] for name in same}
    assert shown.get("update_source", {}).get("alias", "bb") == "bb" and not shown["public"]
    for server in (one, other):
        server.delete(f"{IMAGES}/{fingerprint}")
