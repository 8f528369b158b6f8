"""Backups between LXD 5.0.2 and lxd-node, both ways, by the real client."""

from pathlib import Path

import pytest

from tests.harness.daemons import Daemon
from tests.harness.lxd import Lxd

pytestmark = pytest.mark.slow

CONFIGS = {"shared": {"user.note": "a: b"}, "privileged": {"security.privileged": "true"}}


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize(("source", "target"), [("lxd", "lxd-node"), ("lxd-node", "lxd")], ids=["from LXD", "to LXD"])
def test_an_export_of_one_is_imported_by_the_other(
    peers: dict[str, Daemon], tmp_path: Path, kind: str, source: str, target: str
) -> None:
    name, one, other = f"{kind}-of-{source}", peers[source], peers[target]
    config = [word for key, value in CONFIGS[kind].items() for word in ("-c", f"{key}={value}")]
    one.lxc("init", "bb", name, *config)
    for moment in ("first", "second"):
        (tmp_path / "mark").write_text(moment)
        one.lxc("file", "push", "--uid", "1000", "--gid", "5", f"{tmp_path}/mark", f"{name}/root/mark")
        if moment == "first":
            one.lxc("snapshot", name, "before")
    one.lxc("export", name, f"{tmp_path}/backup")
    other.lxc("import", f"{tmp_path}/backup")
    assert CONFIGS[kind].items() <= other.get(_url(other, name))["config"].items()
    assert _mark(other, name) == (b"second", "1000", "5")
    other.lxc("restore", name, "before")
    assert _mark(other, name) == (b"first", "1000", "5")
    other.lxc("delete", name)
    one.lxc("delete", name)


def _mark(daemon: Daemon, name: str) -> tuple[bytes, str, str]:
    """(content, user, group) of the mark, as the container sees them."""
    status, headers, body = daemon.request("GET", f"{_url(daemon, name)}/files?path=/root/mark")
    assert status == 200, body
    return body, headers["x-lxd-uid"], headers["x-lxd-gid"]


def _url(daemon: Daemon, name: str) -> str:
    return f"/1.0/{'instances' if isinstance(daemon, Lxd) else 'containers'}/{name}"
