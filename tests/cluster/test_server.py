"""One server over its unix socket and over TLS: configuration, trust, profiles, and what bad input gets."""

import base64
import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from lxdnode.node.keypair import KeyPair, make
from tests.cluster.conftest import PROFILE
from tests.harness.certificates import pair_until
from tests.harness.daemons import PASSWORD, ApiError, Daemon, within


def curl(server: Daemon, *argv: str, pair: tuple[Path, Path] | None = None) -> tuple[int, dict[str, object]]:
    """(status, JSON body) of one request over TLS from the server's own namespace."""
    assert server.host is not None
    shown = ["--cert", str(pair[0]), "--key", str(pair[1])] if pair else []
    done = subprocess.run(
        [*server.host.enter, "curl", "-sk", "-w", "\n%{http_code}", *shown, *argv], capture_output=True, timeout=60
    )
    body, _newline, status = done.stdout.decode().rpartition("\n")
    return int(status), json.loads(body) if body else {}


@pytest.fixture
def client(tmp_path: Path) -> tuple[KeyPair, tuple[Path, Path]]:
    """A client's key pair, and its files."""
    pair = make()
    paths = tmp_path / "client.crt", tmp_path / "client.key"
    paths[0].write_text(pair.certificate)
    paths[1].write_text(pair.key)
    return pair, paths


# Configuration


@pytest.mark.extension("patch")
def test_patch_changes_what_is_given_and_put_everything(server: Daemon) -> None:
    before = server.get("/1.0")["config"]
    server.patch("/1.0", {"config": {"core.proxy_http": "http://proxy:1", "images.auto_update_interval": "7"}})
    server.patch("/1.0", {"config": {"core.proxy_http": "http://proxy:2"}})
    config = server.get("/1.0")["config"]
    assert (config["core.proxy_http"], config["images.auto_update_interval"]) == ("http://proxy:2", "7")
    server.put("/1.0", {"config": before})
    assert server.get("/1.0")["config"] == before
    server.post("/1.0/profiles", {"name": "patched", "description": "kept", "config": {"user.a": "1"}})
    server.patch("/1.0/profiles/patched", {"config": {"user.b": "2"}})
    shown = server.get("/1.0/profiles/patched")
    assert (shown["config"], shown["description"]) == ({"user.a": "1", "user.b": "2"}, "kept")


@pytest.mark.extension("etag")
@pytest.mark.parametrize(
    "path", ["/1.0", "/1.0/profiles/default", "/1.0/networks/lxdbr0", "/1.0/storage-pools/default"]
)
def test_a_change_under_an_old_etag_is_refused(server: Daemon, path: str) -> None:
    _status, headers, body = server.request("GET", path)
    shown = json.loads(body)["metadata"]
    etag = headers["etag"]
    changed = {**shown, "config": {**shown["config"], "user.etag": "1"}}
    if path == "/1.0":
        changed = {"config": {**shown["config"], "core.proxy_http": "http://x"}}
    if path == "/1.0/storage-pools/default":
        changed = {"config": {**shown["config"], "rsync.bwlimit": "100"}}
    server.ask("PUT", path, changed, {"If-Match": etag})
    with pytest.raises(ApiError, match=f"^ETag doesn't match: [0-9a-f]{{64}} vs {etag}$") as refused:
        server.ask("PUT", path, shown, {"If-Match": etag})
    assert refused.value.code == 412
    back = {"config": shown["config"]} if path in ("/1.0", "/1.0/storage-pools/default") else shown
    server.put(path, back)


@pytest.mark.extension("https_allowed_credentials")
def test_the_cors_headers_follow_the_settings(server: Daemon) -> None:
    assert "access-control-allow-credentials" not in server.request("GET", "/1.0")[1]
    allowed = {"core.https_allowed_credentials": "true", "core.https_allowed_origin": "https://ui"}
    server.patch("/1.0", {"config": allowed})
    for path in ("/1.0", "/1.0/profiles", "/nowhere"):
        headers = server.request("GET", path)[1]
        assert headers["access-control-allow-credentials"] == "true"
        assert "access-control-allow-origin" not in headers
        headers = server.request("GET", path, headers={"Origin": "https://ui"})[1]
        assert headers["access-control-allow-origin"] == "https://ui"
    server.patch("/1.0", {"config": dict.fromkeys(allowed, "")})
    assert "access-control-allow-credentials" not in server.request("GET", "/1.0")[1]


def test_an_address_that_cannot_be_bound_changes_nothing(server: Daemon) -> None:
    with pytest.raises(ApiError, match="cannot listen on https socket"):
        server.patch("/1.0", {"config": {"core.https_address": "192.0.2.9:8443"}})
    assert server.get("/1.0")["config"]["core.https_address"] == server.address
    assert curl(server, f"https://{server.address}/1.0")[0] == 200


def test_a_second_daemon_on_the_same_state_refuses_to_start(server: Daemon) -> None:
    second = Daemon(server.directory, server.host, "second").start()
    assert second.process is not None
    assert second.process.wait(15) != 0
    assert "LXD is already running" in server.log()
    server.get("/1.0")


# Trust


def test_guests_see_only_what_is_open(server: Daemon) -> None:
    status, body = curl(server, f"https://{server.address}/1.0")
    metadata = body["metadata"]
    assert isinstance(metadata, dict)
    assert (status, metadata["auth"]) == (200, "untrusted")
    assert "config" not in metadata and "environment" not in metadata
    for path in ("profiles", "cluster", "operations", "images/aliases", "certificates", "containers/x"):
        status, body = curl(server, f"https://{server.address}/1.0/{path}")
        assert (status, body["type"], body["error"], body["error_code"]) == (403, "error", "not authorized", 403)
    status, body = curl(server, "-H", "X-LXD-authenticated: true", f"https://{server.address}/1.0")
    assert status == 403
    assert curl(server, "-X", "OPTIONS", f"https://{server.address}/1.0/containers") == (200, {})


def test_a_client_adds_itself_with_the_password(server: Daemon, client: tuple[KeyPair, tuple[Path, Path]]) -> None:
    pair, paths = client
    url = f"https://{server.address}/1.0"
    wrong = json.dumps({"type": "client", "password": "guess"})
    assert curl(server, "-d", wrong, f"{url}/certificates", pair=paths)[0] == 403
    other = json.dumps({"type": "server", "password": PASSWORD})
    status, body = curl(server, "-d", other, f"{url}/certificates", pair=paths)
    assert (status, body["error"]) == (400, "Unknown request type server")
    right = json.dumps({"type": "client", "password": PASSWORD})
    assert curl(server, "-d", right, f"{url}/certificates", pair=paths)[0] == 201
    assert curl(server, f"{url}/profiles", pair=paths)[0] == 200
    status, body = curl(server, "-d", right, f"{url}/certificates", pair=paths)
    assert (status, body["error"]) == (400, "Certificate already in trust store")
    server.delete(f"/1.0/certificates/{pair.fingerprint[:12]}")
    assert curl(server, f"{url}/profiles", pair=paths)[0] == 403


@pytest.mark.extension("certificate_update")
def test_a_certificate_is_renamed_and_keeps_its_type(server: Daemon) -> None:
    pair = make()
    text = base64.b64encode(pair.der).decode()
    server.post("/1.0/certificates", {"type": "client", "name": "laptop", "certificate": text})
    url = f"/1.0/certificates/{pair.fingerprint}"
    assert server.get(url) == {
        "name": "laptop",
        "type": "client",
        "certificate": pair.certificate,
        "fingerprint": pair.fingerprint,
    }
    _status, headers, _body = server.request("GET", url)
    server.patch(url, {"name": "desk"})
    assert server.get(url)["name"] == "desk"
    with pytest.raises(ApiError, match="ETag doesn't match"):
        server.ask("PUT", url, {"name": "x", "type": "client"}, {"If-Match": headers["etag"]})
    with pytest.raises(ApiError, match="^Unknown request type server$") as refused:
        server.put(url, {"name": "desk", "type": "server"})
    assert refused.value.code == 400
    server.delete(url)
    with pytest.raises(ApiError) as gone:
        server.get(url)
    assert gone.value.code == 404


def test_the_real_client_adds_a_remote_and_works_over_tls(server: Daemon) -> None:
    server.lxc("remote", "add", "self", f"https://{server.address}", "--accept-certificate", "--password", PASSWORD)
    assert b"environment:" in server.lxc("info", "self:").stdout
    server.lxc("profile", "create", "self:remote-made")
    assert b"remote-made" in server.lxc("profile", "list").stdout
    server.lxc("profile", "delete", "self:remote-made")


# Profiles and descriptions


@pytest.mark.extension("entity_description")
def test_objects_keep_their_descriptions(server: Daemon) -> None:
    root = {"root": {"type": "disk", "path": "/", "pool": "default"}}
    server.post(
        "/1.0/containers",
        {"name": "described", "description": "a box", "devices": root, "profiles": [], "source": {"type": "none"}},
    )
    for path in ("containers/described", "networks/lxdbr0", "storage-pools/default", "profiles/default"):
        shown = server.get(f"/1.0/{path}")
        server.put(f"/1.0/{path}", {**shown, "description": "words of ours"})
        assert server.get(f"/1.0/{path}")["description"] == "words of ours"
    server.delete("/1.0/containers/described")


@pytest.mark.extension("profile_usedby")
def test_a_profile_names_the_containers_that_use_it(server: Daemon) -> None:
    server.post("/1.0/profiles", {"name": "worn"})
    assert server.get("/1.0/profiles/worn")["used_by"] == []
    server.post("/1.0/containers", {"name": "wearer", "profiles": ["default", "worn"], "source": {"type": "none"}})
    assert server.get("/1.0/profiles/worn")["used_by"] == ["/1.0/containers/wearer"]
    with pytest.raises(ApiError, match="^Profile is currently in use$"):
        server.delete("/1.0/profiles/worn")
    server.post("/1.0/profiles/worn", {"name": "worn-out"})
    assert server.get("/1.0/containers/wearer")["profiles"] == ["default", "worn-out"]
    server.delete("/1.0/containers/wearer")
    assert server.get("/1.0/profiles/worn-out")["used_by"] == []
    server.delete("/1.0/profiles/worn-out")


@pytest.mark.extension("resources")
def test_the_hardware_and_how_full_a_pool_is_are_told(server: Daemon, directory: Path) -> None:
    found = server.get("/1.0/resources")
    lines = Path("/proc/meminfo").read_text().splitlines()
    kernel = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if "kB" in line}
    assert found["memory"]["total"] == kernel["MemTotal"] > found["memory"]["used"] > 0
    assert found["cpu"]["total"] == os.cpu_count() == sum(socket["threads"] for socket in found["cpu"]["sockets"])
    first, known = found["cpu"]["sockets"][0], Path("/proc/cpuinfo").read_text()
    assert 0 < first["cores"] <= first["threads"]
    assert f": {first['name']}\n" in known and f": {first['vendor']}\n" in known
    assert found["pool"] == {"space": {"total": 0}, "inodes": {"used": 0, "total": 0}}
    pool, disk = server.get("/1.0/storage-pools/default/resources"), os.statvfs(directory)
    assert pool["space"]["total"] == disk.f_blocks * disk.f_frsize > pool["space"]["used"] > 0
    assert pool["inodes"]["total"] == disk.f_files > pool["inodes"]["used"] > 0
    shown = server.lxc("storage", "info", "default", "--bytes").stdout.decode()
    assert f'total space: "{pool["space"]["total"]}"' in shown or str(pool["space"]["total"]) in shown
    with pytest.raises(ApiError, match="No cluster member called 'm9'"):
        server.get("/1.0/resources?target=m9")


@pytest.mark.extension("operation_description")
def test_operations_say_what_they_do(server: Daemon) -> None:
    made = server.ask("POST", "/1.0/containers", {"name": "worked", "source": {"type": "none"}})
    assert made["description"] == "Creating container"
    assert made["resources"] == {"containers": ["/1.0/containers/worked"]}
    assert server.post("/1.0/containers/worked", {"name": "worked2"})["description"] == "Renaming container"
    assert server.delete("/1.0/containers/worked2")["description"] == "Deleting container"


# Bad input


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "words"),
    [
        ("GET", "/1.0/", None, 404, "not found"),
        ("GET", "/2.0", None, 404, "not found"),
        ("DELETE", "/1.0/profiles", None, 501, "not implemented"),
        ("HEAD", "/1.0/profiles", None, 404, ""),
        ("PATCH", "/1.0", {"config": {"core.nothing": "1"}}, 400, "cannot set 'core.nothing' to '1': unknown key"),
        ("PATCH", "/1.0", {"config": ["x"]}, 400, ""),
        ("PATCH", "/1.0", b"{", 400, ""),
        ("PATCH", "/1.0", b"\xff\xfe", 400, ""),
        ("POST", "/1.0/profiles", b"", 400, ""),
        ("POST", "/1.0/profiles", {"name": 5}, 400, ""),
        ("POST", "/1.0/profiles", {"name": "a/b"}, 400, "Profile names may not contain slashes"),
        ("POST", "/1.0/profiles", {"name": "a\nb"}, 400, "Invalid profile name 'a\nb'"),
        ("POST", "/1.0/profiles", {"name": "x", "config": {"nope": "1"}}, 400, "Unknown configuration key: nope"),
        ("POST", "/1.0/profiles", {"name": "x", "devices": {"d": {}}}, 400, "Missing device type for device 'd'"),
        ("POST", "/1.0/profiles", {"name": "default"}, 400, "The profile already exists"),
        ("PUT", "/1.0/profiles/nobody", {}, 404, "Failed to retrieve profile='nobody': not found"),
        ("GET", "/1.0/profiles/%2e%2e%2f", None, 404, "not found"),
        ("POST", "/1.0/containers", {"name": "x", "source": {"type": "dream"}}, 400, "unknown source type dream"),
        ("GET", "/1.0/containers/nobody", None, 404, "not found"),
        ("PUT", "/1.0/containers/nobody/state", {"action": "start"}, 404, "not found"),
        ("GET", "/1.0/operations/11111111-1111-4111-8111-111111111111", None, 404, "not found"),
        ("POST", "/1.0/networks", {"name": "x"}, 400, "Interface name is too short (minimum 2 characters)"),
        ("POST", "/1.0/storage-pools", {"name": "p"}, 400, "No driver provided"),
        ("POST", "/1.0/images", {}, 500, "Invalid images JSON"),
    ],
)
def test_bad_input_gets_a_clear_error_and_stores_nothing(
    server: Daemon, method: str, path: str, body: object, code: int, words: str
) -> None:
    before = server.get("/1.0/profiles?recursion=1"), server.get("/1.0")["config"]
    status, headers, answer = server.request(method, path, body)
    assert status == code
    if method != "HEAD":
        envelope = json.loads(answer)
        assert envelope["type"] == "error" and envelope["error_code"] == code
        assert envelope["error"] if not words else envelope["error"] == words
        assert "Traceback" not in envelope["error"]
        assert headers["content-type"] == "application/json"
    assert (server.get("/1.0/profiles?recursion=1"), server.get("/1.0")["config"]) == before


def test_a_huge_body_is_refused_without_being_read(server: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.socket))
        connection.sendall(b"POST /1.0/profiles HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n{")
        connection.settimeout(5)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")
    before = len(server.log())
    assert server.get("/1.0")["auth"] == "trusted"
    assert "Traceback" not in server.log()[before - 2000 :]


def test_half_a_handshake_and_noise_disturb_nobody(server: Daemon) -> None:
    host, port = server.address.split(":")
    script = (
        "import socket,sys\n"
        "for data in (b'', b'\\x16\\x03\\x01', b'GET / HTTP/1.1\\r\\n\\r\\n', bytes(range(256))*64):\n"
        f"    s=socket.create_connection(('{host}',{port}),5); s.sendall(data or b'\\x16')\n"
        "    s.close()\n"
    )
    assert server.host is not None
    subprocess.run([*server.host.enter, "python3", "-c", script], check=True, timeout=20)
    assert curl(server, f"https://{server.address}/1.0")[0] == 200
    time.sleep(0.2)
    assert "Traceback" not in server.log()


def test_an_expired_certificate_is_refused_though_it_is_in_the_store(server: Daemon, tmp_path: Path) -> None:
    paths = tmp_path / "old.crt", tmp_path / "old.key"
    old = pair_until(-1)
    paths[0].write_text(old.certificate)
    paths[1].write_text(old.key)
    encoded = base64.b64encode(old.der).decode()
    server.post("/1.0/certificates", {"type": "client", "name": "old", "certificate": encoded})
    assert curl(server, f"https://{server.address}/1.0/profiles", pair=paths)[0] == 403


def test_the_daemon_starts_again_with_what_it_had(server: Daemon) -> None:
    server.post("/1.0/profiles", {"name": "durable"})
    server.kill()
    server.start().wait_ready()
    assert "/1.0/profiles/durable" in server.get("/1.0/profiles")
    assert server.get("/1.0/profiles/default")["devices"] == PROFILE["devices"]
    within(5, "TLS is served again", lambda: curl(server, f"https://{server.address}/1.0")[0] == 200)
