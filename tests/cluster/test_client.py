"""The real `lxc` client: what it lists, and what it hears (spec/client.md)."""

from collections.abc import Iterator

import pytest

from tests.harness.daemons import Cluster, Daemon, within
from tests.harness.monitor import Monitor


@pytest.fixture(scope="module")
def containers(cluster: Cluster, image: bytes) -> Iterator[list[str]]:
    """One running container on each of the first two members, and a stopped one on the third."""
    cluster[1].post("/1.0/images", image)
    fingerprint = cluster[1].get("/1.0/images")[0].rsplit("/", 1)[1]
    names = ["on-m1", "on-m2", "off-m3"]
    for name, target in zip(names, ("m1", "m2", "m3"), strict=True):
        source = {"type": "image", "fingerprint": fingerprint}
        cluster[1].post(f"/1.0/containers?target={target}", {"name": name, "source": source})
    for name in names[:2]:
        cluster[3].put(f"/1.0/containers/{name}/state", {"action": "start"})
    yield names
    for name in names[:2]:
        cluster[1].put(f"/1.0/containers/{name}/state", {"action": "stop", "force": True})
    for name in names:
        cluster[1].delete(f"/1.0/containers/{name}")


def listed(member: Daemon, *argv: str) -> list[list[str]]:
    """The rows of `lxc list`: name, state, location."""
    text = member.lxc("list", "--format", "csv", "-c", "nsL", *argv).stdout.decode()
    return [line.split(",") for line in text.splitlines()]


@pytest.mark.extension("api_filtering", "container_backup")
def test_every_member_lists_and_filters_all_containers(cluster: Cluster, containers: list[str]) -> None:
    everything = [["off-m3", "STOPPED", "m3"], ["on-m1", "RUNNING", "m1"], ["on-m2", "RUNNING", "m2"]]
    for member in cluster.members:
        assert listed(member) == everything
        assert listed(member, "status=running") == everything[1:]
        assert listed(member, "on-m2") == everything[2:]
        assert listed(member, "user.nothing=1") == []
    shown = cluster[2].get("/1.0/containers?recursion=1&filter=status%20eq%20Running%20and%20name%20ne%20on-m1")
    assert [one["name"] for one in shown] == ["on-m2"]
    assert b"Location: m2" in cluster[1].lxc("info", "on-m2").stdout


@pytest.mark.extension("container_full")
def test_one_list_has_the_states_of_the_containers_of_all_members(cluster: Cluster, containers: list[str]) -> None:
    cluster[1].post("/1.0/containers/off-m3/snapshots", {"name": "kept"})
    snapshots = cluster[1].get("/1.0/containers/off-m3/snapshots?recursion=1")
    for member in cluster.members:
        found = {one["name"]: one for one in member.get("/1.0/containers?recursion=2")}
        assert sorted(found) == sorted(containers)
        for name, one in found.items():
            state = member.get(f"/1.0/containers/{name}/state")
            assert (one["status"], one["location"]) == (state["status"], name[-2:])
            assert (one["state"]["pid"], one["state"]["status"]) == (state["pid"], state["status"])
            assert (one["snapshots"], one["backups"]) == (snapshots if name == "off-m3" else [], [])
    filtered = cluster[3].get("/1.0/containers?recursion=2&filter=name%20eq%20on-m1")
    assert [one["state"]["network"]["eth0"]["state"] for one in filtered] == ["up"]
    pids = [
        line.split(",")[1] for line in cluster[1].lxc("list", "--format", "csv", "-c", "np").stdout.decode().split()
    ]
    assert pids == [str(found[name]["state"]["pid"]) if name[:2] == "on" else "" for name in sorted(containers)]


@pytest.mark.extension("event_lifecycle")
def test_lifecycle_events_are_heard_on_every_member_once(cluster: Cluster, containers: list[str]) -> None:
    def poke() -> None:
        for value in ("1", "2"):
            cluster[1].patch("/1.0/containers/off-m3", {"config": {"user.poke": value}})

    def events(monitor: Monitor) -> list[dict[str, str]]:
        return [one for one in monitor.heard() if one["source"] != "/1.0/containers/off-m3"]

    with Monitor(cluster[1], "lifecycle", poke) as first, Monitor(cluster[3], "lifecycle", poke) as third:
        cluster[2].put("/1.0/containers/on-m2/state", {"action": "freeze"})
        cluster[1].put("/1.0/containers/on-m2/state", {"action": "unfreeze"})
        cluster[3].put("/1.0/containers/on-m2/state", {"action": "restart", "force": True})
        expected = ["container-paused", "container-resumed", "container-stopped", "container-started"]
        for heard in (first, third):
            within(10, "all events came", lambda heard=heard: len(events(heard)) >= len(expected))
            assert [one["action"] for one in events(heard)] == expected
            assert {one["source"] for one in events(heard)} == {"/1.0/containers/on-m2"}
