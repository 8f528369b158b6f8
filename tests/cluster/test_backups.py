"""Backups through real daemons: made, exported, imported again, on any member and over a crash."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lxdnode.drivers.images.busybox import assemble, find_busybox, unified
from tests.harness.daemons import ApiError, Daemon, within

pytestmark = pytest.mark.slow

DESCRIPTION = "container: {name: x, profiles: [default]}"
HEADERS = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def image_named_bb(server: Daemon, image: bytes) -> str:
    """The busybox image on the server."""
    done = server.ask("POST", "/1.0/images", image)
    server.post("/1.0/images/aliases", {"name": "bb", "target": done["metadata"]["fingerprint"]})
    return "bb"


@pytest.fixture
def name(server: Daemon, image_named_bb: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a stopped container with a snapshot `before`, whose file `/root/mark` says `first`, and `now` at
    present; it is gone afterwards."""
    made = request.node.name.removeprefix("test_").partition("[")[0].replace("_", "-")[:50].rstrip("-")
    body = {"name": made, "source": {"type": "image", "alias": image_named_bb}, "config": {"user.a": "1"}}
    server.post("/1.0/containers", body | {"description": "mine"})
    write(server, made, "first")
    server.post(f"/1.0/containers/{made}/snapshots", {"name": "before"})
    write(server, made, "now")
    yield made
    server.lxc("delete", "--force", made, check=False)


def write(server: Daemon, name: str, text: str) -> None:
    """Puts `text` into the mark of a container."""
    server.ask("POST", f"/1.0/containers/{name}/files?path=/root/mark", text.encode(), {"X-LXD-uid": "1000"})


def mark(server: Daemon, name: str) -> str:
    """What the mark of a container says."""
    return server.request("GET", f"/1.0/containers/{name}/files?path=/root/mark")[2].decode()


def export(server: Daemon, name: str, **fields: Any) -> bytes:
    """A new backup of a container; the server keeps none."""
    server.post(f"/1.0/containers/{name}/backups", {"name": "b"} | fields)
    status, headers, content = server.request("GET", f"/1.0/containers/{name}/backups/b/export")
    assert (status, headers["content-length"]) == (200, str(len(content)))
    assert headers["content-type"] == "application/octet-stream"
    server.delete(f"/1.0/containers/{name}/backups/b")
    return content


def give(server: Daemon, content: bytes) -> Any:
    """Imports a backup."""
    return server.ask("POST", "/1.0/containers", content, HEADERS)


def index_of(content: bytes) -> Any:
    """(names in the tarball, its index)."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:xz") as archive:
        index = archive.extractfile("backup/index.yaml")
        assert index is not None
        return archive.getnames(), yaml.safe_load(index)


@pytest.mark.extension("container_backup")
def test_a_container_comes_back_from_its_backup(server: Daemon, name: str) -> None:
    was = server.get(f"/1.0/containers/{name}")
    old_snapshot = server.get(f"/1.0/containers/{name}/snapshots/before")
    content = export(server, name)
    names, index = index_of(content)
    assert names[0] == "backup/index.yaml"
    assert {"backup/container/rootfs/root/mark", "backup/snapshots/before/rootfs/root/mark"} <= set(names)
    assert {"backup/container/backup.yaml", "backup/container/metadata.yaml"} <= set(names)
    assert {key: index[key] for key in ("name", "backend", "privileged", "pool", "snapshots")} == {
        "name": name,
        "backend": "dir",
        "privileged": False,
        "pool": "default",
        "snapshots": ["before"],
    }
    server.delete(f"/1.0/containers/{name}")
    done = give(server, content)
    assert done["description"] == "Restoring backup"
    assert done["resources"] == {"containers": [f"/1.0/containers/{name}"]}
    assert server.get(f"/1.0/containers/{name}") == was
    assert server.get(f"/1.0/containers/{name}/snapshots/before") == old_snapshot
    assert mark(server, name) == "now"
    server.put(f"/1.0/containers/{name}/state", {"action": "start"})
    assert server.lxc("exec", "-T", name, "--", "stat", "-c", "%u", "/root/mark").stdout == b"1000\n"
    server.put(f"/1.0/containers/{name}/state", {"action": "stop", "force": True})
    server.put(f"/1.0/containers/{name}", {"restore": "before"})
    assert mark(server, name) == "first"


def test_a_container_that_exists_is_never_replaced(server: Daemon, name: str) -> None:
    content = export(server, name)
    write(server, name, "since")
    with pytest.raises(ApiError, match=f"^Container '{name}' already exists$"):
        give(server, content)
    assert mark(server, name) == "since"
    assert not list((server.directory / "backups").iterdir())


def test_a_backup_of_the_container_only_has_no_snapshots(server: Daemon, name: str) -> None:
    content = export(server, name, container_only=True)
    names, index = index_of(content)
    assert not [one for one in names if one.startswith("backup/snapshots")] and "snapshots" not in index
    server.delete(f"/1.0/containers/{name}")
    give(server, content)
    assert mark(server, name) == "now"
    assert server.get(f"/1.0/containers/{name}/snapshots") == []


def test_the_client_exports_and_imports(server: Daemon, name: str, tmp_path: Path) -> None:
    server.put(f"/1.0/containers/{name}/state", {"action": "start"})
    server.lxc("export", name, f"{tmp_path}/backup.tar.xz")
    assert server.get(f"/1.0/containers/{name}")["status"] == "Running"
    assert server.get(f"/1.0/containers/{name}/backups") == []
    server.lxc("delete", "--force", name)
    server.lxc("import", f"{tmp_path}/backup.tar.xz")
    assert server.get(f"/1.0/containers/{name}")["status"] == "Stopped"
    assert mark(server, name) == "now"
    assert b"before" in server.lxc("info", name).stdout


def test_backups_are_listed_renamed_and_removed(server: Daemon, name: str) -> None:
    here = f"/1.0/containers/{name}/backups"
    done = server.post(here, {"expiry": "2030-01-02T03:04:05Z"})
    assert done["description"] == "Backing up container"
    assert done["resources"] == {"containers": [f"/1.0/containers/{name}"], "backups": ["/1.0/backups/backup0"]}
    server.post(here, {"name": "backup4", "container_only": True})
    server.post(here, {"name": ""})
    assert server.get(here) == [f"{here}/backup0", f"{here}/backup4", f"{here}/backup5"]
    shown = server.get(f"{here}?recursion=1")
    assert shown[0] == server.get(f"{here}/backup0")
    assert {key: shown[0][key] for key in shown[0] if key != "creation_date"} == {
        "name": f"{name}/backup0",
        "expiry_date": "2030-01-02T03:04:05Z",
        "container_only": False,
        "optimized_storage": False,
    }
    assert shown[1]["container_only"] and shown[1]["expiry_date"] == "0001-01-01T00:00:00Z"
    server.post(f"{here}/backup0", {"name": "other"})
    assert server.request("GET", f"{here}/backup0/export")[0] == 404
    assert server.request("GET", f"{here}/other/export")[0] == 200
    for method, path, body, words in [
        ("POST", here, {"name": "a/b"}, "Backup names may not contain slashes"),
        ("POST", here, {"name": "other"}, f"backup '{name}/other' already exists"),
        ("POST", f"{here}/other", {"name": "a/b"}, "Backup names may not contain slashes"),
        ("POST", f"{here}/other", {"name": "backup4"}, f"backup '{name}/backup4' already exists"),
        ("GET", f"{here}/nobody", None, "not found"),
        ("DELETE", f"{here}/nobody", None, "not found"),
    ]:
        with pytest.raises(ApiError) as refusal:
            server.ask(method, path, body)
        assert str(refusal.value) == words
    server.delete(f"{here}/other")
    server.post(f"/1.0/containers/{name}", {"name": f"{name}-new"})
    assert server.request("GET", f"/1.0/containers/{name}-new/backups/backup4/export")[0] == 200
    server.delete(f"/1.0/containers/{name}-new")
    assert not list((server.directory / "backups").iterdir())


def tarball(**texts: str) -> bytes:
    """A tarball of texts; `__` in their names is a slash, and `_` a dot."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo("backup/" + name.replace("__", "/").replace("_", "."))
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"no tarball", 400, "^Unsupported compression$"),
        (tarball(other="x"), 400, r"^Backup is missing index\.yaml$"),
        (tarball(index_yaml="- a list"), 400, r"^Could not parse the backup's index\.yaml: "),
        (tarball(index_yaml="name: x"), 400, r"^Backup is missing backup\.yaml$"),
        (tarball(index_yaml="name: x\noptimized: true\nbackend: zfs"), 400, '^Optimized backups of driver "zfs"'),
        (
            tarball(index_yaml="name: x\npool: default", container__backup_yaml=DESCRIPTION),
            *(400, "^Backup has no root file system"),
        ),
        (
            tarball(index_yaml="name: ../x\npool: default", container__backup_yaml=DESCRIPTION),
            *(400, "^Container name isn't a valid hostname"),
        ),
        (
            tarball(
                index_yaml="name: x\npool: default\nsnapshots: [..]",
                container__backup_yaml=DESCRIPTION + "\nsnapshots: [{name: ..}]",
            ),
            *(400, r"^Invalid snapshot name: '\.\.'$"),
        ),
    ],
    ids=["no tarball", "no index", "bad index", "no description", "optimized", "no files", "name", "snapshot"],
)
def test_what_is_no_backup_leaves_nothing(server: Daemon, content: bytes, code: int, words: str) -> None:
    with pytest.raises(ApiError, match=words) as refusal:
        give(server, content)
    assert refusal.value.code == code
    assert server.request("GET", "/1.0/containers/x")[0] == 404
    folder = server.directory / "backups"
    assert not folder.exists() or not list(folder.iterdir())


def test_a_link_in_a_tarball_leads_nowhere(server: Daemon, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, text in (("index.yaml", "name: evil\npool: default"), ("container/backup.yaml", DESCRIPTION)):
            member = tarfile.TarInfo(f"backup/{path}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("backup/container/rootfs")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("backup/container/rootfs/file"))
    with pytest.raises(ApiError):
        give(server, out.getvalue())
    assert not list(outside.iterdir())
    assert server.request("GET", "/1.0/containers/evil")[0] == 404


def test_a_pool_that_is_missing_is_the_default_profiles(server: Daemon, name: str) -> None:
    server.post("/1.0/storage-pools", {"name": "elsewhere", "driver": "dir"})
    server.lxc("move", name, f"{name}-2", "--storage", "elsewhere")
    content = export(server, f"{name}-2")
    server.delete(f"/1.0/containers/{name}-2")
    server.delete("/1.0/storage-pools/elsewhere")
    give(server, content)
    for one in ("", "/snapshots/before"):
        assert server.get(f"/1.0/containers/{name}-2{one}")["expanded_devices"]["root"]["pool"] == "default"
    assert mark(server, f"{name}-2") == "now"
    server.delete(f"/1.0/containers/{name}-2")


# A daemon that is killed half-way.


@pytest.fixture(scope="module")
def large(server: Daemon) -> Iterator[str]:
    """A container whose packing takes some time."""
    done = server.ask("POST", "/1.0/images", unified(assemble(find_busybox(), padding=16)))
    source = {"type": "image", "fingerprint": done["metadata"]["fingerprint"]}
    server.post("/1.0/containers", {"name": "large", "source": source})
    yield "large"
    server.lxc("delete", "--force", "large", check=False)


def test_a_backup_that_was_cut_short_is_gone(server: Daemon, large: str) -> None:
    server.put(f"/1.0/containers/{large}/state", {"action": "start"})
    assert server.request("POST", f"/1.0/containers/{large}/backups", {"name": "cut"})[0] == 202
    folder = server.directory / "backups"
    within(10, "packing", lambda: list(folder.iterdir()))
    server.kill()
    server.start().wait_ready()
    within(5, "no file", lambda: not list(folder.iterdir()))
    within(5, "no document", lambda: server.get(f"/1.0/containers/{large}/backups") == [])
    assert server.get(f"/1.0/containers/{large}/state")["status"] == "Running"
    server.put(f"/1.0/containers/{large}/state", {"action": "stop", "force": True})


def test_an_import_that_was_cut_short_is_undone(server: Daemon, large: str) -> None:
    server.post(f"/1.0/containers/{large}/snapshots", {"name": "s"})
    content = export(server, large)
    server.delete(f"/1.0/containers/{large}")
    volumes = [server.directory / f"storage-pools/default/{kind}/{large}" for kind in ("containers", "snapshots")]
    assert server.request("POST", "/1.0/containers", content, HEADERS)[0] == 202
    within(10, "unpacking", lambda: (volumes[0] / "rootfs").exists())
    server.kill()
    server.start().wait_ready()
    within(5, "no container", lambda: server.request("GET", f"/1.0/containers/{large}")[0] == 404)
    assert not any(volume.exists() for volume in volumes)
    give(server, content)
    assert server.get(f"/1.0/containers/{large}/snapshots") == [f"/1.0/containers/{large}/snapshots/s"]
