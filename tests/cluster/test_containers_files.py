"""Files of containers through the API and the real client: running, stopped, and of any size."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.daemons import ApiError, Daemon


@pytest.fixture(scope="module", params=["running", "stopped", "privileged"])
def container(request: pytest.FixtureRequest, server: Daemon, image: bytes) -> Iterator[str]:
    """A container that runs, one that does not, and one without a user namespace."""
    images = server.get("/1.0/images")
    if not images:
        server.ask("POST", "/1.0/images", image)
        images = server.get("/1.0/images")
    source = {"type": "image", "fingerprint": images[0].rpartition("/")[2]}
    config = {"security.privileged": "true"} if request.param == "privileged" else {}
    server.post("/1.0/containers", {"name": request.param, "source": source, "config": config})
    if request.param != "stopped":
        server.put(f"/1.0/containers/{request.param}/state", {"action": "start"})
    yield request.param
    server.lxc("delete", "--force", request.param)


def put(server: Daemon, container: str, path: str, content: bytes = b"", **headers: str) -> None:
    """Writes to a path; header names with `_` for `-`."""
    given = {f"X-LXD-{name}": value for name, value in headers.items()}
    server.ask("POST", f"/1.0/containers/{container}/files?path={path}", content, given)


def get(server: Daemon, container: str, path: str) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of a path."""
    return server.request("GET", f"/1.0/containers/{container}/files?path={path}")


def test_a_file_comes_back_as_it_was_put(server: Daemon, container: str) -> None:
    content = os.urandom(5 << 20)
    put(server, container, "/root/big", content, uid="1000", gid="1001", mode="0640")
    status, headers, body = get(server, container, "/root/big")
    assert (status, body == content) == (200, True)
    assert headers["content-disposition"] == "inline;filename=big"
    shown = {name: headers[f"x-lxd-{name}"] for name in ("uid", "gid", "mode", "type")}
    assert shown == {"uid": "1000", "gid": "1001", "mode": "0640", "type": "file"}
    assert headers["content-length"] == str(len(content))


def test_a_part_of_a_file_can_be_asked_for(server: Daemon, container: str) -> None:
    url = f"/1.0/containers/{container}/files?path=/root/parts"
    for content in (b"0123456789", os.urandom(2 << 20)):  # One that is read at once, and one that is streamed.
        put(server, container, "/root/parts", content)
        for asked, first, last in (
            ("2-4", 2, 4),
            ("7-", 7, len(content) - 1),
            ("-3", len(content) - 3, len(content) - 1),
        ):
            status, headers, body = server.request("GET", url, headers={"Range": f"bytes={asked}"})
            assert (status, body) == (206, content[first : last + 1])
            assert headers["content-range"] == f"bytes {first}-{last}/{len(content)}"
        assert server.request("GET", url, headers={"Range": f"bytes={len(content)}-"})[0] == 416


def test_files_that_the_kernel_makes_are_read(server: Daemon, container: str) -> None:
    if container == "stopped":
        assert get(server, container, "/proc/version")[0] == 404
    else:
        assert get(server, container, "/proc/version")[2] == Path("/proc/version").read_bytes()


@pytest.mark.extension("directory_manipulation")
def test_directories_are_made_pushed_and_listed(server: Daemon, container: str, tmp_path: Path) -> None:
    put(server, container, "/root/folder", type="directory", mode="0711", uid="5")
    status, headers, _ = get(server, container, "/root/folder")
    assert status == 200
    assert (headers["x-lxd-type"], headers["x-lxd-mode"], headers["x-lxd-uid"]) == ("directory", "0711", "5")
    put(server, container, "/root/folder/file")
    put(server, container, "/", type="directory")  # What is there stays; through a link as well.
    put(server, container, "/root/to-folder", b"folder", type="symlink")
    put(server, container, "/root/to-folder", type="directory", uid="6")
    assert get(server, container, "/root/folder")[1]["x-lxd-uid"] == "5"
    with pytest.raises(ApiError, match="File exists"):
        put(server, container, "/root/folder/file", type="directory")
    listed = server.get(f"/1.0/containers/{container}/files?path=/root/folder")
    assert listed == ["file"]
    (tmp_path / "tree/a/b").mkdir(parents=True)
    (tmp_path / "tree/a/b/deep").write_text("deep")
    server.lxc("file", "push", "-q", "-r", f"{tmp_path}/tree", f"{container}/root/")
    server.lxc("file", "push", "-q", "-p", f"{tmp_path}/tree/a/b/deep", f"{container}/root/made/on/the/way/deep")
    server.lxc("file", "pull", "-q", "-r", f"{container}/root/tree", f"{tmp_path}/back")
    assert (tmp_path / "back/tree/a/b/deep").read_text() == "deep"


@pytest.mark.extension("file_append")
def test_a_file_is_appended_to(server: Daemon, container: str) -> None:
    put(server, container, "/root/log", b"one\n", write="append", mode="0600")
    put(server, container, "/root/log", b"two\n", write="append")
    _, headers, body = get(server, container, "/root/log")
    assert (body, headers["x-lxd-mode"]) == (b"one\ntwo\n", "0600")
    put(server, container, "/root/log", b"three\n")
    assert get(server, container, "/root/log")[2] == b"three\n"
    with pytest.raises(ApiError, match="^Bad file write mode: sideways$"):
        put(server, container, "/root/log", write="sideways")


@pytest.mark.extension("file_delete")
def test_files_links_and_empty_directories_are_deleted(server: Daemon, container: str) -> None:
    put(server, container, "/root/gone", type="directory")
    put(server, container, "/root/gone/file")
    server.lxc("file", "delete", f"{container}/root/gone/file")
    server.delete(f"/1.0/containers/{container}/files?path=/root/gone")
    assert get(server, container, "/root/gone")[0] == 404
    with pytest.raises(ApiError, match="^not found$"):
        server.delete(f"/1.0/containers/{container}/files?path=/root/gone")
    with pytest.raises(ApiError, match="not empty"):
        server.delete(f"/1.0/containers/{container}/files?path=/etc")


@pytest.mark.extension("file_symlinks")
def test_links_are_made_and_pushed(server: Daemon, container: str, tmp_path: Path) -> None:
    put(server, container, "/root/link", b"/etc/passwd", type="symlink")
    put(server, container, "/root/link", b"/elsewhere", type="symlink")  # What exists is left as it is.
    put(server, container, "/root/link", b"through the link")
    assert get(server, container, "/etc/passwd")[2] == b"through the link"
    (tmp_path / "links").mkdir()
    (tmp_path / "links/relative").symlink_to("target")
    server.lxc("file", "push", "-q", "-r", f"{tmp_path}/links", f"{container}/root/")
    assert get(server, container, "/root/links/relative")[2] == b"target\n"


@pytest.mark.extension("file_get_symlink")
def test_a_link_shows_its_target(server: Daemon, container: str, tmp_path: Path) -> None:
    put(server, container, "/root/shown", b"../etc/hostname", type="symlink")
    status, headers, body = get(server, container, "/root/shown")
    assert (status, headers["x-lxd-type"], body) == (200, "symlink", b"../etc/hostname\n")
    server.lxc("file", "pull", "-q", "-r", f"{container}/root/shown", f"{tmp_path}/pulled")


def test_what_is_wrong_is_refused(server: Daemon, container: str) -> None:
    assert get(server, container, "/no/such")[0] == 404
    assert server.request("GET", f"/1.0/containers/{container}/files")[0] == 400
    for path, headers, words in [
        ("/no/such/file", {}, "^file does not exist$"),
        ("/etc", {}, "^Path already exists as a directory"),
        ("/root/x", {"type": "pipe"}, "^Bad file type: pipe$"),
    ]:
        with pytest.raises(ApiError, match=words):
            put(server, container, path, **headers)
    put(server, container, "/root/kept", b"kept")
    for kind in ("file", "directory", "symlink"):  # Nothing is made or emptied for an owner that nobody can be.
        for path in ("/root/kept", f"/root/no-{kind}"):
            with pytest.raises(ApiError, match="is outside the container's id map"):
                put(server, container, path, b"x", type=kind, uid=str(2**32))
    assert get(server, container, "/root/kept")[2] == b"kept"
    assert not [name for name in server.get(f"/1.0/containers/{container}/files?path=/root") if name.startswith("no-")]
    put(server, container, "/root/decimal", mode="420")  # Without a leading 0 it is decimal: 0644.
    assert get(server, container, "/root/decimal")[1]["x-lxd-mode"] == "0644"


@pytest.mark.parametrize("container", ["running", "privileged"], indirect=True)
def test_the_kernel_is_told_nothing(server: Daemon, container: str) -> None:
    """What is written to it in a container would be obeyed as if the host's root had said it."""
    put(server, container, "/root/innocent", b"/proc/sys/kernel/hostname", type="symlink")
    before = Path("/proc/sys/kernel/hostname").read_text()
    for path in ("/root/innocent", "/proc/sys/kernel/hostname", "/proc/sys/vm/swappiness"):
        with pytest.raises(ApiError, match="A file of the kernel's own|Read-only"):
            put(server, container, path, b"1")
    for path in ("/proc/folder", "/sys/fs/cgroup/folder"):
        with pytest.raises(ApiError, match="A file of the kernel's own|Read-only"):
            put(server, container, path, type="directory")
    assert Path("/proc/sys/kernel/hostname").read_text() == before
    assert server.lxc("exec", "-T", container, "--", "hostname").stdout.decode().strip() == container


def test_no_path_leads_out(server: Daemon, container: str) -> None:
    put(server, container, "/root/out", b"/proc/1/root", type="symlink")
    put(server, container, "/root/up", b"../../../../../../../../..", type="symlink")
    own = get(server, container, "/etc/hostname")[2]
    assert get(server, container, "/root/up/etc/hostname")[2] == own
    assert get(server, container, "../../../etc/hostname")[2] == own
    assert get(server, container, "/root/out/etc/hostname")[0] in (404, 500)
