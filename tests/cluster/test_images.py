"""Images through real daemons: upload, export, aliases, publishing, and their way between members (spec/images.md)."""

import hashlib
import io
import json
import socket
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from lxdnode.drivers.images import busybox
from tests.harness.daemons import ApiError, Cluster, Daemon, within
from tests.harness.namespaces import run

pytestmark = pytest.mark.slow

IMAGES = "/1.0/images"
MULTIPART = {"Content-Type": "multipart/form-data; boundary=XX"}


def upload(member: Daemon, body: bytes, **headers: str) -> str:
    """Uploads a unified image; returns its fingerprint."""
    named = {f"X-LXD-{name}": value for name, value in headers.items()}
    done = member.ask("POST", IMAGES, body, {"Content-Type": "application/octet-stream", **named})
    assert done["description"] == "Downloading image"
    return str(done["metadata"]["fingerprint"])


def another(seed: int) -> bytes:
    """An image with a fingerprint of its own."""
    return busybox.unified(busybox.assemble(busybox.find_busybox(), padding=1, seed=seed))


def remove(member: Daemon, fingerprint: str) -> None:
    member.delete(f"{IMAGES}/{fingerprint}")


def test_an_upload_is_shown_exported_and_deleted(server: Daemon, image: bytes) -> None:
    fingerprint = upload(server, image, filename="bb.tar.gz", public="true", properties="a=b+c&os=X")
    assert fingerprint == hashlib.sha256(image).hexdigest()
    shown = server.get(f"{IMAGES}/{fingerprint[:10]}")
    assert (shown["filename"], shown["size"], shown["public"]) == ("bb.tar.gz", len(image), True)
    assert shown["properties"]["a"] == "b c" and shown["properties"]["os"] == "X"
    assert shown["created_at"].startswith("2023-11-14T22:13:20")
    status, headers, body = server.request("GET", f"{IMAGES}/{fingerprint}/export")
    assert status == 200 and body == image
    assert headers["content-disposition"] == f"inline;filename={fingerprint}.tar.gz"
    status, headers, body = server.request("GET", f"{IMAGES}/{fingerprint}/export", None, {"Range": "bytes=10-19"})
    assert (status, body, headers["content-range"]) == (206, image[10:20], f"bytes 10-19/{len(image)}")
    remove(server, fingerprint)
    assert server.get(IMAGES) == [] and not list((server.directory / "images").iterdir())


@pytest.mark.parametrize("squashfs", [False, True])
def test_a_split_image_travels_as_two_parts(server: Daemon, tmp_path: Path, squashfs: bool) -> None:
    halves = busybox.split(busybox.assemble(busybox.find_busybox()), squashfs=squashfs)
    body = multipart(("metadata", halves[0]), ("rootfs", halves[1]))
    done = server.ask("POST", IMAGES, body, MULTIPART)
    fingerprint = done["metadata"]["fingerprint"]
    assert fingerprint == hashlib.sha256(b"".join(halves)).hexdigest()
    assert server.get(f"{IMAGES}/{fingerprint}")["filename"] == "rootfs.file"
    server.lxc("image", "export", fingerprint, str(tmp_path))  # the client checks the hash over both parts
    ending = "squashfs" if squashfs else "tar.gz"
    assert (tmp_path / f"{fingerprint}.{ending}").read_bytes() == halves[1]
    remove(server, fingerprint)


def multipart(*parts: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    for name, content in parts:
        head = f'--XX\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.file"\r\n\r\n'
        out.write(head.encode() + content + b"\r\n")
    out.write(b"--XX--\r\n")
    return out.getvalue()


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b"no image at all", {}, "Unsupported compression"),
        (b"", {}, "Unsupported compression"),
        (b"IMAGE", {"X-LXD-fingerprint": "0" * 64}, "fingerprints don't match, got "),
        (multipart(("rootfs", b"x")), MULTIPART, "Invalid multipart image"),
        (multipart(("metadata", b"x")), MULTIPART, "Invalid multipart image"),
        (b'{"source": {"type": "magic"}}', {}, "Invalid images JSON"),
        (b'{"source": {"type": "container"}}', {}, "No source provided"),
        (b'{"source": {"type": "snapshot", "name": "c1"}}', {}, "Not a snapshot"),
        (b'{"source": {"type": "container", "name": "c1/s1"}}', {}, "This is a snapshot"),
        (b'{"source": {"type": "container", "name": "missing"}}', {}, "not found"),
        (b'{"source": {"type": "image"}}', {}, "must specify one of alias or fingerprint for init from image"),
        (b'{"source": {"type": "url"}}', {}, "Missing URL"),
        (b'{"source": {"type": "url", "url": "ftp://x/"}}', {}, 'Get "ftp://x/": unsupported protocol scheme "ftp"'),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_and_leaves_nothing(
    server: Daemon, body: bytes, headers: dict[str, str], words: str
) -> None:
    with pytest.raises(ApiError, match=words):
        server.ask("POST", IMAGES, body, headers)
    assert server.get(IMAGES) == [] and not list((server.directory / "images").iterdir())


def test_an_image_without_metadata_is_refused(server: Daemon) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("rootfs"))
    with pytest.raises(ApiError, match=r"Could not extract image metadata.yaml from tar: "):
        upload(server, out.getvalue())


def test_an_image_of_no_calendar_is_listed(server: Daemon) -> None:
    text = b"architecture: x86_64\ncreation_date: 99999999999999\nexpiry_date: -99999999999999\n"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        file = tarfile.TarInfo("metadata.yaml")
        file.size = len(text)
        tar.addfile(file, io.BytesIO(text))
    fingerprint = upload(server, out.getvalue())
    [shown] = server.get(f"{IMAGES}?recursion=1")
    assert (shown["created_at"], shown["expires_at"]) == ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z")
    remove(server, fingerprint)


def test_an_upload_that_breaks_off_leaves_nothing(server: Daemon) -> None:
    content = another(6)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server.socket))
        head = f"POST {IMAGES} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        client.sendall(head.encode() + content[:-10])
        within(5, "it arrives", lambda: any((server.directory / "images").iterdir()))
    within(5, "nothing of it is left", lambda: not any((server.directory / "images").iterdir()))
    assert server.get(IMAGES) == []


def test_a_full_disk_is_named_and_nothing_stays(server: Daemon) -> None:
    assert server.process is not None
    there = ["nsenter", "-t", str(server.process.pid), "--mount"]  # the daemon has mounts of its own
    folder = str(server.directory / "images")
    run("mkdir", "-p", folder)
    run(*there, "mount", "-t", "tmpfs", "-o", "size=1m", "none", folder)
    try:
        with pytest.raises(ApiError, match=r"the image cannot be kept in .*/images: No space left on device"):
            upload(server, another(4))
        assert run(*there, "ls", "-A", folder) == ""
    finally:
        run(*there, "umount", folder)
    assert server.get(IMAGES) == []


def test_one_image_through_two_members_at_once_is_taken_once(cluster: Cluster) -> None:
    content = another(5)
    outcomes: list[str] = []

    def send(member: Daemon) -> None:
        try:
            outcomes.append(upload(member, content))
        except ApiError as error:
            outcomes.append(str(error))

    senders = [threading.Thread(target=send, args=(member,)) for member in cluster.members]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    fingerprint = hashlib.sha256(content).hexdigest()
    assert sorted(outcomes) == sorted([fingerprint, *["Image with same fingerprint already exists"] * 2])
    assert cluster[1].get(IMAGES) == [f"{IMAGES}/{fingerprint}"]
    remove(cluster[2], fingerprint)
    within(5, "no member has its files", lambda: not any(_has(member, fingerprint) for member in cluster.members))


def test_the_same_image_twice_is_refused(server: Daemon, image: bytes) -> None:
    fingerprint = upload(server, image)
    with pytest.raises(ApiError, match="Image with same fingerprint already exists"):
        upload(server, image)
    assert server.get(IMAGES) == [f"{IMAGES}/{fingerprint}"]
    remove(server, fingerprint)


def test_aliases_name_images(server: Daemon, image: bytes) -> None:
    first, second = upload(server, image), upload(server, another(2))
    aliases = f"{IMAGES}/aliases"
    server.post(aliases, {"name": "bb/edge", "target": first[:12], "description": "d"})
    assert server.get(f"{aliases}/bb/edge") == {"name": "bb/edge", "target": first, "description": "d"}
    for body, code, words in (
        ({"name": "x"}, 400, "name and target are required"),
        ({"name": "bb/edge", "target": first}, 409, "Alias 'bb/edge' already exists"),
        ({"name": "x", "target": "ff" * 32}, 404, "not found"),
    ):
        with pytest.raises(ApiError, match=words) as refused:
            server.post(aliases, body)
        assert refused.value.code == code
    server.patch(f"{aliases}/bb/edge", {"target": second})
    assert server.get(f"{IMAGES}/{first}")["aliases"] == []
    assert server.get(f"{IMAGES}/{second}")["aliases"] == [{"name": "bb/edge", "description": "d"}]
    server.post(f"{aliases}/bb/edge", {"name": "stable"})
    assert server.get(aliases) == [f"{aliases}/stable"]
    with pytest.raises(ApiError, match="The target field is required"):
        server.put(f"{aliases}/stable", {})
    remove(server, second)
    assert server.get(aliases) == []
    remove(server, first)


def test_an_image_is_changed_under_its_etag(server: Daemon, image: bytes) -> None:
    url = f"{IMAGES}/{upload(server, image)}"
    _status, headers, _body = server.request("GET", url)
    server.patch(url, {"properties": {"note": "x"}, "public": True})
    shown = server.get(url)
    assert shown["public"] and shown["properties"]["note"] == "x" and shown["properties"]["os"] == "Busybox"
    body = json.dumps({"properties": {"only": "this"}}).encode()
    assert server.request("PUT", url, body, {"If-Match": headers["etag"]})[0] == 412
    assert server.request("PUT", url, body)[0] == 200
    shown = server.get(url)
    assert not shown["public"] and shown["properties"] == {"only": "this"}
    assert server.get(f"{IMAGES}?recursion=1&filter=public+eq+true") == []
    server.delete(url)


def test_the_client_imports_and_lists(server: Daemon, image: bytes, tmp_path: Path) -> None:
    (tmp_path / "image.tar.gz").write_bytes(image)
    server.lxc("image", "import", str(tmp_path / "image.tar.gz"), "--alias", "bb", "note=x")
    assert b"note: x" in server.lxc("image", "show", "bb").stdout
    assert b"bb" in server.lxc("image", "list", "--format", "csv").stdout
    server.lxc("image", "delete", "bb")


@pytest.mark.extension("image_create_aliases")
def test_a_published_container_gets_its_aliases(cluster: Cluster, image: bytes) -> None:
    upload(cluster[1], image)
    alias = {"name": "published", "description": "d"}
    source = {"type": "image", "fingerprint": hashlib.sha256(image).hexdigest()}
    cluster[1].post("/1.0/containers?target=m2", {"name": "pub", "source": source})
    body = {"source": {"type": "container", "name": "pub"}, "aliases": [alias], "properties": {"os": "Mine"}}
    done = cluster[3].post(IMAGES, body)
    fingerprint = done["metadata"]["fingerprint"]
    assert cluster[1].get(f"{IMAGES}/aliases/published") == {**alias, "target": fingerprint}
    assert cluster[1].get(f"{IMAGES}/{fingerprint}")["properties"] == {"os": "Mine"}
    with pytest.raises(ApiError, match=f"The image already exists: {fingerprint}"):
        cluster[1].post(IMAGES, body)
    # An image that was published makes containers, on a member that has to fetch it first.
    source = {"type": "image", "alias": "published"}
    cluster[1].post("/1.0/containers?target=m3", {"name": "again", "source": source})
    assert (cluster[3].directory / "containers/again/rootfs/bin/busybox").exists()
    # An alias that is taken fails the operation, and the image stays.
    body["properties"] = {"os": "Other"}
    with pytest.raises(ApiError, match="Alias already exists: published"):
        cluster[1].post(IMAGES, body)
    assert len(cluster[1].get(IMAGES)) == 3
    for name in ("pub", "again"):
        cluster[1].delete(f"/1.0/containers/{name}")
    for url in cluster[1].get(IMAGES):
        cluster[2].delete(url)


def test_an_image_is_fetched_once_and_deleted_everywhere(cluster: Cluster) -> None:
    content = another(7)
    fingerprint = upload(cluster[1], content)
    assert [_has(member, fingerprint) for member in cluster.members] == [True, False, False]
    assert cluster[3].request("GET", f"{IMAGES}/{fingerprint}/export")[2] == content
    source = {"type": "image", "fingerprint": fingerprint}
    operations = [
        json.loads(cluster[1].request("POST", "/1.0/containers?target=m3", {"name": name, "source": source})[2])
        for name in ("f1", "f2", "f3")
    ]
    for operation in operations:
        assert cluster[1].get(f"{operation['operation']}/wait")["status"] == "Success"
    assert [_has(member, fingerprint) for member in cluster.members] == [True, False, True]
    used = f"{IMAGES}/{fingerprint}"
    within(5, "its use", lambda: not cluster[2].get(used)["last_used_at"].startswith("0001"))
    cluster[2].delete(f"{IMAGES}/{fingerprint}")
    within(5, "no member has its files", lambda: not any(_has(member, fingerprint) for member in cluster.members))
    assert cluster[1].get(IMAGES) == []
    for name in ("f1", "f2", "f3"):
        cluster[1].delete(f"/1.0/containers/{name}")


def test_a_damaged_copy_is_not_taken(cluster: Cluster) -> None:
    fingerprint = upload(cluster[1], another(8))
    path = cluster[1].directory / "images" / fingerprint
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    body = {"name": "bad", "source": {"type": "image", "fingerprint": fingerprint}}
    with pytest.raises(ApiError, match="image not available on any online node"):
        cluster[1].post("/1.0/containers?target=m2", body)
    assert not _has(cluster[2], fingerprint)
    cluster[1].delete(f"{IMAGES}/{fingerprint}")


def _has(member: Daemon, fingerprint: str) -> bool:
    return (member.directory / "images" / fingerprint).exists()


def guest(server: Daemon, path: str) -> tuple[int, bytes]:
    """What a client without a certificate gets over TLS: (status, body)."""
    assert server.host is not None
    done = subprocess.run(
        [*server.host.enter, "curl", "-sk", "-w", "%{http_code}", f"https://{server.address}{path}"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    return int(done.stdout[-3:]), done.stdout[:-3]


def test_guests_see_public_images_and_those_they_have_a_secret_for(server: Daemon, image: bytes) -> None:
    private = upload(server, image)
    public = upload(server, another(3), public="1")
    server.post(f"{IMAGES}/aliases", {"name": "hidden", "target": private})
    server.post(f"{IMAGES}/aliases", {"name": "open", "target": public})
    assert json.loads(guest(server, IMAGES)[1])["metadata"] == [f"{IMAGES}/{public}"]
    assert guest(server, f"{IMAGES}/aliases/open")[0] == 200
    for path in (f"{IMAGES}/{private}", f"{IMAGES}/{private}/export", f"{IMAGES}/aliases/hidden"):
        assert guest(server, path)[0] == 404
    assert guest(server, f"{IMAGES}/aliases")[0] == 403
    _status, _headers, body = server.request("POST", f"{IMAGES}/{private}/secret")
    token = json.loads(body)["metadata"]
    assert (token["class"], token["description"], token["may_cancel"]) == ("token", "Image download token", True)
    secret = token["metadata"]["secret"]
    assert guest(server, f"{IMAGES}/{private}?secret={'0' * 64}")[0] == 404
    assert guest(server, f"{IMAGES}/{private}?secret={secret}")[0] == 200
    assert guest(server, f"{IMAGES}/{private}/export?secret={secret}") == (200, image)
    assert guest(server, f"{IMAGES}/{public}/export?secret={secret}")[0] == 200
    within(10, "the secret is used up", lambda: guest(server, f"{IMAGES}/{private}?secret={secret}")[0] == 404)
    for fingerprint in (private, public):
        remove(server, fingerprint)
