"""Containers between LXD 5.0.2 and lxd-node by the real client, which relays: the two share no network."""

import pytest

from tests.harness.daemons import Daemon

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("source", "target"), [("lxd", "lxd-node"), ("lxd-node", "lxd")], ids=["from LXD", "to LXD"])
def test_a_container_goes_from_one_to_the_other(peers: dict[str, Daemon], source: str, target: str) -> None:
    one, other, name = peers[source], peers[target], f"goes-to-{target}"
    for remote, server in peers.items():
        one.lxc("remote", "add", remote, f"unix://{server.socket}", check=False)
    one.lxc("init", "bb", name, "-c", "user.note=a: b")
    one.lxc("file", "push", "--uid", "1000", "--gid", "5", "/etc/hostname", f"{name}/root/mark")
    one.lxc("snapshot", name, "before")
    one.lxc("copy", f"{source}:{name}", f"{target}:{name}", "--mode", "relay")
    kind = "instances" if target == "lxd" else "containers"
    assert other.get(f"/1.0/{kind}/{name}")["config"]["user.note"] == "a: b"
    [snapshot] = other.get(f"/1.0/{kind}/{name}/snapshots?recursion=1")
    assert snapshot["name"].rpartition("/")[2] == "before"
    status, headers, data = other.request("GET", f"/1.0/{kind}/{name}/files?path=/root/mark")
    with open("/etc/hostname", "rb") as file:
        assert (status, data, headers["x-lxd-uid"], headers["x-lxd-gid"]) == (200, file.read(), "1000", "5")
