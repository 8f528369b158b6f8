"""Images of other servers: of lxd-node through the real client, of plain files by simplestreams, direct and url
(spec/images.md 3, 4 and 8), and downloads that break."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lxdnode.drivers.images import busybox
from tests.cluster.conftest import BRIDGE, POOL, PREFIX, PROFILE, host_of
from tests.harness import web
from tests.harness.daemons import PASSWORD, ApiError, Cluster, Daemon, within
from tests.harness.interposed import Interposed, build
from tests.harness.namespaces import run
from tests.harness.simplestreams import Streams

pytestmark = pytest.mark.slow

IMAGES = "/1.0/images"
CONTAINERS = "/1.0/containers"


@pytest.fixture(scope="module")
def servers(directory: Path) -> Cluster:
    """Three servers that are not started yet."""
    return Cluster(directory / "i", 3, PREFIX + "i", "10.97.0")


@pytest.fixture(scope="module")
def clock(servers: Cluster, directory: Path) -> Interposed:
    """The wall clock of the cluster's first member, which leads."""
    return Interposed(servers[2], build(directory))


@pytest.fixture(scope="module")
def cluster(servers: Cluster, clock: Interposed, directory: Path) -> Iterator[Cluster]:
    """A server of images, a cluster of two, and in the first one's namespace a `site` of plain files.

    The second member trusts the site's certificate as its system's; nobody else does."""
    made = servers
    for member in made.members:
        member.extra["NO_PROXY"] = "*"  # Of whatever proxy this machine has.
    made[2].extra["SSL_CERT_FILE"] = str(directory / "site/web.crt")
    try:
        made.start()
        other, first, second = made.members
        other.patch("/1.0", {"config": {"core.https_address": other.address, "core.trust_password": PASSWORD}})
        preseed: dict[str, Any] = {
            "config": {"core.https_address": first.address, "core.trust_password": PASSWORD},
            "cluster": {"enabled": True, "server_name": first.name},
            "storage_pools": [POOL],
            "networks": [BRIDGE],
            "profiles": [PROFILE],
        }
        first.command("init", "--preseed", stdin=json.dumps(preseed).encode())
        made.join(second, through=first)
        first.lxc(
            "remote", "add", "other", f"https://{other.address}", "--accept-certificate", f"--password={PASSWORD}"
        )
        yield made
    finally:
        made.stop()


@pytest.fixture
def other(cluster: Cluster) -> Daemon:
    """The server of images."""
    return cluster[1]


@pytest.fixture
def member(cluster: Cluster) -> Iterator[Daemon]:
    """The first member of the cluster; nothing half done is left after a test, and what it has made is removed."""
    yield cluster[2]
    for one in cluster.members[1:]:
        assert not list((one.directory / "images").glob(".incoming-*"))
    for url in cluster[2].get(CONTAINERS):
        cluster[2].delete(url)
    for server in cluster.members[:2]:
        for url in server.get(IMAGES):
            server.delete(url)


@pytest.fixture
def site(cluster: Cluster, directory: Path) -> Iterator[web.Web]:
    """Plain files over TLS."""
    with web.serve(host_of(cluster[1]), directory / "site") as made:
        yield made


def another(seed: int) -> bytes:
    """An image with a fingerprint of its own."""
    return busybox.unified(busybox.assemble(busybox.find_busybox(), padding=1, seed=seed))


def upload(server: Daemon, body: bytes, alias: str = "", **headers: str) -> str:
    named = {f"X-LXD-{name}": value for name, value in headers.items()}
    done = server.ask("POST", IMAGES, body, {"Content-Type": "application/octet-stream", **named})
    fingerprint = str(done["metadata"]["fingerprint"])
    if alias:
        server.post(f"{IMAGES}/aliases", {"name": alias, "target": fingerprint})
    return fingerprint


def certificate(server: Daemon) -> str:
    return (server.directory / "server.crt").read_text()


def source(server: Daemon, **more: str) -> dict[str, str]:
    """The `source` of a request for an image of an lxd-node."""
    return {"type": "image", "server": f"https://{server.address}", "certificate": certificate(server), **more}


def begun(member: Daemon, url: str, body: object) -> str:
    """The URL of an operation that has been started."""
    return str(json.loads(member.request("POST", url, body)[2])["operation"])


def test_the_client_copies_private_and_public_images(other: Daemon, member: Daemon) -> None:
    private = upload(other, another(1), "private", properties="note=x")
    public = upload(other, another(2), "public", public="true")
    member.lxc("image", "copy", "other:private", "local:", "--mode", "relay")
    member.delete(f"{IMAGES}/{private}")
    member.lxc("image", "copy", "other:private", "local:", "--alias", "mine")
    assert member.get(f"{IMAGES}/aliases/mine")["target"] == private
    shown = member.get(f"{IMAGES}/{private}")
    assert shown["properties"]["note"] == "x" and not shown["public"] and not shown["cached"]
    member.lxc("image", "copy", "other:public", "local:", "--copy-aliases", "--public", "--auto-update")
    shown = member.get(f"{IMAGES}/{public}")
    assert shown["public"] and [alias["name"] for alias in shown["aliases"]] == ["public"]
    assert (member.directory / "images" / public).read_bytes() == another(2)


@pytest.mark.parametrize("squashfs", [False, True])
def test_a_split_image_is_copied(other: Daemon, member: Daemon, squashfs: bool) -> None:
    halves = busybox.split(busybox.assemble(busybox.find_busybox()), squashfs=squashfs)
    parts = "".join(
        f'--XX\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n{half.decode("latin1")}\r\n'
        for name, half in zip(("metadata", "rootfs"), halves, strict=True)
    )
    body = f"{parts}--XX--\r\n".encode("latin1")
    done = other.ask("POST", IMAGES, body, {"Content-Type": "multipart/form-data; boundary=XX", "X-LXD-public": "1"})
    fingerprint = done["metadata"]["fingerprint"]
    made = member.post(IMAGES, {"source": source(other, fingerprint=fingerprint), "properties": {"extra": "y"}})
    assert made["description"] == "Downloading image"
    assert made["metadata"] == {"fingerprint": fingerprint, "size": str(sum(map(len, halves)))}
    assert (member.directory / f"images/{fingerprint}.rootfs").read_bytes() == halves[1]
    shown = member.get(f"{IMAGES}/{fingerprint}")
    assert shown["properties"] == {**other.get(f"{IMAGES}/{fingerprint}")["properties"], "extra": "y"}
    assert "update_source" not in shown  # It was named by its whole fingerprint.


def test_where_an_image_came_from_is_kept(other: Daemon, member: Daemon) -> None:
    fingerprint = upload(other, another(1), "edge", public="true")
    body = {"source": source(other, alias="edge"), "auto_update": True, "aliases": [{"name": "here"}]}
    member.post(IMAGES, body)
    shown = member.get(f"{IMAGES}/{fingerprint}")
    assert shown["auto_update"] and not shown["public"]
    assert shown["update_source"] == {
        "alias": "edge",
        "protocol": "lxd",
        "server": f"https://{other.address}",
        "certificate": certificate(other),
    }
    with pytest.raises(ApiError, match="^Alias already exists: here$"):  # Present, so that it is used as it is.
        member.post(IMAGES, body)


def test_the_client_launches_an_image_of_another_server(other: Daemon, cluster: Cluster, member: Daemon) -> None:
    fingerprint = upload(other, another(1), "edge", public="true", properties="os=There")
    member.lxc("launch", "other:edge", "there", "--target", "m3")
    made = member.get(f"{CONTAINERS}/there")
    assert (made["status"], made["location"], made["config"]["image.os"]) == ("Running", "m3", "There")
    assert made["config"]["volatile.base_image"] == fingerprint
    assert (cluster[3].directory / "images" / fingerprint).exists()
    assert not (member.directory / "images" / fingerprint).exists()  # Who makes the container downloads.
    shown = member.get(f"{IMAGES}/{fingerprint}")
    assert shown["cached"] and not shown["public"]
    member.lxc("delete", "--force", "there")


def test_an_image_that_is_kept_up_to_date_is_used_though_there_is_a_newer_one(other: Daemon, member: Daemon) -> None:
    old = upload(other, another(1), "edge", public="true")
    member.post(CONTAINERS, {"name": "one", "source": source(other, alias="edge")})
    assert member.get(f"{IMAGES}/{old}")["auto_update"]  # images.auto_update_cached is on.
    new = upload(other, another(2), public="true")
    other.patch(f"{IMAGES}/aliases/edge", {"target": new})
    member.post(CONTAINERS, {"name": "two", "source": source(other, alias="edge")})
    assert member.get(f"{CONTAINERS}/two")["config"]["volatile.base_image"] == old
    member.post(IMAGES, {"source": source(other, alias="edge")})
    assert sorted(member.get(IMAGES)) == sorted(f"{IMAGES}/{one}" for one in (old, new))


def test_what_cannot_be_had_is_refused_in_lxds_words(other: Daemon, member: Daemon) -> None:
    private = upload(other, another(1), "private")
    away = {"type": "image", "server": "https://10.97.0.1:1", "alias": "x"}
    for wanted, words in (
        (source(other, alias="nobody"), "not found"),
        (source(other, alias="private"), "not found"),
        (source(other, fingerprint=private), f"Image '{private}' not found"),
        (source(other, fingerprint=private, secret="0" * 64), f"Image '{private}' not found"),
        ({**source(other, alias="x"), "certificate": certificate(member)}, "it shows the certificate"),
        ({**source(other, alias="x"), "certificate": ""}, "certificate verify failed"),
        ({**source(other, alias="x"), "certificate": "x"}, "Invalid certificate"),
        ({**source(other, alias="x"), "protocol": "magic"}, "Unsupported protocol: magic"),
        (away, "Unable to connect to: 10.97.0.1:1"),
        (
            {**source(other), "protocol": "simplestreams", "alias": "x", "secret": "s"},
            "Private images aren't supported",
        ),
    ):
        with pytest.raises(ApiError, match=words):
            member.post(IMAGES, {"source": wanted})
        with pytest.raises(ApiError, match=words):
            member.post(CONTAINERS, {"name": "none", "source": wanted})
    for wanted, words in (
        (source(other), "Must specify one of alias, fingerprint or properties for init from image"),
        ({**source(other), "properties": {"os": "x"}}, "Property match is only supported for local images"),
    ):
        with pytest.raises(ApiError, match=words) as refused:
            member.post(CONTAINERS, {"name": "none", "source": wanted})
        assert refused.value.code == 400
    assert member.get(IMAGES) == [] and member.get(CONTAINERS) == []


@pytest.mark.extension("image_force_refresh")
def test_an_image_is_refreshed_from_its_source(other: Daemon, cluster: Cluster, member: Daemon) -> None:
    old = upload(other, another(1), "edge", public="true")
    body = {"source": source(other, alias="edge"), "auto_update": True, "aliases": [{"name": "here"}], "public": True}
    member.post(IMAGES, body)
    new = upload(other, another(2), public="true")
    other.patch(f"{IMAGES}/aliases/edge", {"target": new})
    done = cluster[3].post(f"{IMAGES}/{old}/refresh", {})  # Through a member that does not hold it.
    assert (done["description"], done["metadata"]) == ("Refreshing image", {"refreshed": True})
    assert member.get(IMAGES) == [f"{IMAGES}/{new}"]
    shown = member.get(f"{IMAGES}/{new}")
    assert shown["auto_update"] and not shown["public"] and [one["name"] for one in shown["aliases"]] == ["here"]
    assert cluster[3].post(f"{IMAGES}/{new}/refresh", {})["metadata"] == {"refreshed": False}
    within(5, "its files are gone", lambda: not (member.directory / "images" / old).exists())
    assert b"already up to date" in member.lxc("image", "refresh", "here").stdout
    own = upload(member, another(3))
    with pytest.raises(ApiError, match="^not found$"):  # It has no source.
        member.post(f"{IMAGES}/{own}/refresh", {})


def test_images_are_updated_when_the_daemon_starts(other: Daemon, member: Daemon) -> None:
    old = upload(other, another(1), "edge", public="true")
    member.post(IMAGES, {"source": source(other, alias="edge"), "auto_update": True})
    gone = {"source": source(other, alias="gone"), "auto_update": True}
    other.post(f"{IMAGES}/aliases", {"name": "gone", "target": upload(other, another(3), public="true")})
    left = member.post(IMAGES, gone)["metadata"]["fingerprint"]
    other.delete(f"{IMAGES}/{left}")
    new = upload(other, another(2), public="true")
    other.patch(f"{IMAGES}/aliases/edge", {"target": new})
    member.kill()
    member.start().wait_ready()
    wanted = sorted(f"{IMAGES}/{one}" for one in (new, left))  # What its server does not have any more stays.
    within(20, "the newer one", lambda: sorted(member.get(IMAGES)) == wanted)
    assert old not in member.get(IMAGES)


def test_an_image_of_a_container_expires(other: Daemon, cluster: Cluster, member: Daemon, clock: Interposed) -> None:
    cached, copied = (upload(other, another(seed), f"a{seed}", public="true") for seed in (1, 2))
    member.post(f"{CONTAINERS}?target=m3", {"name": "soon", "source": source(other, alias="a1")})
    member.post(IMAGES, {"source": source(other, alias="a2")})
    clock.set_clock(9 * 86400 + 60)
    try:
        member.patch("/1.0", {"config": {"images.remote_cache_expiry": "9"}})
        within(10, "it has expired", lambda: member.get(IMAGES) == [f"{IMAGES}/{copied}"])
    finally:
        clock.set_clock(0)
        member.patch("/1.0", {"config": {"images.remote_cache_expiry": ""}})
    within(5, "its files are gone", lambda: not (cluster[3].directory / "images" / cached).exists())


def test_a_server_that_falls_leaves_nothing(other: Daemon, member: Daemon) -> None:
    content = busybox.unified(busybox.assemble(busybox.find_busybox(), padding=16), compress=False)
    fingerprint = upload(other, content, "big", public="true")
    link = [*host_of(other).enter, "tc", "qdisc"]
    run(*link, "replace", "dev", "eth0", "root", "tbf", "rate", "40mbit", "burst", "64kb", "latency", "400ms")
    try:
        operation = begun(member, CONTAINERS, {"name": "fallen", "source": source(other, alias="big")})
        within(10, "it comes", lambda: list((member.directory / "images").glob(".incoming-*")))
        other.kill()
    finally:
        run(*link, "del", "dev", "eth0", "root")
    done = member.get(f"{operation}/wait")
    assert done["status"] == "Failure" and "the connection to the server broke" in done["err"]
    assert member.get(IMAGES) == [] and member.get(CONTAINERS) == []
    assert list((member.directory / "images").iterdir()) == []
    other.start().wait_ready()
    member.post(CONTAINERS, {"name": "fallen", "source": source(other, alias="big")})
    assert member.get(IMAGES) == [f"{IMAGES}/{fingerprint}"]


# Plain files.


@pytest.mark.parametrize(("kind", "name"), [("squashfs", "bb"), ("root.tar.xz", "bb/3.8/amd64")])
def test_simplestreams(site: web.Web, member: Daemon, kind: str, name: str) -> None:
    streams = Streams(site, f"/{kind}", kind)
    done = member.post(IMAGES, {"source": streams.source(alias=name)})
    assert done["metadata"]["fingerprint"] == streams.fingerprint
    shown = member.get(f"{IMAGES}/{streams.fingerprint}")
    assert (shown["filename"], shown["public"], shown["architecture"]) == ("lxd.tar.xz", False, "x86_64")
    assert (shown["created_at"], shown["expires_at"]) == ("2018-07-20T00:00:00Z", "2030-05-01T00:00:00Z")
    assert shown["properties"] == {
        "os": "Busybox", "release": "3.8", "architecture": "amd64", "serial": "20180720_13:00",
        "description": "Busybox 3.8 amd64 (20180720_13:00)",
    }  # fmt: skip
    assert shown["update_source"]["alias"] == name and shown["size"] == int(done["metadata"]["size"])
    member.post(CONTAINERS, {"name": "streamed", "source": {"type": "image", "fingerprint": streams.fingerprint}})
    assert (member.directory / "containers/streamed/rootfs/bin/busybox").exists()


def test_lists_are_asked_for_once_an_hour_and_names_may_be_beginnings(site: web.Web, member: Daemon) -> None:
    streams = Streams(site, "/hour")
    with pytest.raises(ApiError, match="^The requested image couldn't be found.$"):
        member.post(IMAGES, {"source": streams.source(alias="nobody")})
    member.post(CONTAINERS, {"name": "hour", "source": streams.source(fingerprint=streams.fingerprint[:12])})
    assert site.asked.count("GET /hour/streams/v1/index.json") == 1
    with pytest.raises(ApiError, match=rf"^Unable to fetch {site.url}/none/streams/v1/index.json: 404$"):
        member.post(IMAGES, {"source": {**streams.source(alias="bb"), "server": f"{site.url}/none"}})


def test_an_image_at_a_url(site: web.Web, member: Daemon) -> None:
    content = another(3)
    fingerprint = hashlib.sha256(content).hexdigest()
    site.files |= {"/head": b"", "/file": content, "/bare": b"", "/half": b""}
    site.headers["/head"] = {"LXD-Image-Hash": fingerprint, "LXD-Image-URL": f"{site.url}/moved"}
    site.headers["/half"] = {"LXD-Image-Hash": fingerprint}
    site.moved["/moved"] = "/file"
    member.post(IMAGES, {"source": {"type": "url", "url": f"{site.url}/head"}, "properties": {"a": "b"}})
    shown = member.get(f"{IMAGES}/{fingerprint}")
    assert shown["properties"]["a"] == "b" and shown["properties"]["os"] == "Busybox" and not shown["auto_update"]
    assert shown["update_source"]["server"] == f"{site.url}/moved"
    assert (shown["update_source"]["protocol"], shown["update_source"]["alias"]) == ("direct", fingerprint)
    for path, words in (("/bare", "Missing LXD-Image-Hash header"), ("/half", "Missing LXD-Image-URL header")):
        with pytest.raises(ApiError, match=f"^{words}$"):
            member.post(IMAGES, {"source": {"type": "url", "url": site.url + path}})


def test_an_image_that_is_a_file_makes_a_container(site: web.Web, member: Daemon) -> None:
    site.files["/file"] = another(3)
    fingerprint = hashlib.sha256(another(3)).hexdigest()
    wanted = {"type": "image", "protocol": "direct", "server": f"{site.url}/file", "fingerprint": fingerprint}
    member.post(CONTAINERS, {"name": "direct", "source": wanted})
    shown = member.get(f"{IMAGES}/{fingerprint}")
    assert shown["cached"] and not shown["auto_update"] and "update_source" not in shown


def test_downloads_go_through_the_proxy_that_is_set(site: web.Web, member: Daemon) -> None:
    streams = Streams(site, "/proxied")
    keys = {"core.proxy_https": "http://10.97.0.2:1", "core.proxy_ignore_hosts": "elsewhere.example"}
    member.patch("/1.0", {"config": keys})
    try:
        for wanted in (streams.source(alias="bb"), {"type": "url", "url": f"{site.url}/x"}):
            with pytest.raises(ApiError, match="Unable to connect to: 10.97.0.2:1: "):
                member.post(IMAGES, {"source": wanted})
        member.patch("/1.0", {"config": {"core.proxy_ignore_hosts": "10.97.0.1"}})
        member.post(IMAGES, {"source": streams.source(alias="bb")})
    finally:
        member.patch("/1.0", {"config": dict.fromkeys(keys, "")})


def test_a_broken_download_leaves_nothing(site: web.Web, member: Daemon) -> None:
    streams = Streams(site, "/broken")
    meta, root = streams.paths
    whole = dict(site.files)
    site.files[root] = whole[root][:-1] + b"!"
    expected = f"^Hash mismatch for {site.url}{root}: [0-9a-f]{{64}} != {hashlib.sha256(whole[root]).hexdigest()}$"
    with pytest.raises(ApiError, match=expected):
        member.post(CONTAINERS, {"name": "broken", "source": streams.source(alias="bb")})
    site.files = dict(whole)
    for path in (meta, root):
        site.cut = {path}
        with pytest.raises(ApiError, match="the connection to the server broke"):
            member.post(CONTAINERS, {"name": "broken", "source": streams.source(alias="bb")})
    site.cut = set()
    del site.files[root]
    with pytest.raises(ApiError, match=f"^Unable to fetch {site.url}{root}: 404$"):
        member.post(IMAGES, {"source": streams.source(alias="bb")})
    assert member.get(IMAGES) == [] and member.get(CONTAINERS) == []
    assert list((member.directory / "images").iterdir()) == []
    site.files = whole
    member.post(IMAGES, {"source": streams.source(alias="bb")})


def test_equal_downloads_wait_for_one_another_and_tell_how_far_they_are(site: web.Web, member: Daemon) -> None:
    streams = Streams(site, "/equal")
    site.held = {streams.paths[1]}
    first = begun(member, IMAGES, {"source": streams.source(alias="bb")})
    progress = within(10, "progress", lambda: (member.get(first)["metadata"] or {}).get("download_progress"))
    assert re.fullmatch(r"\d+% \(\d+\.\d\d[kM]B/s\)", progress), progress
    pinned = streams.source(alias="bb", certificate=site.pair.certificate)
    made = [begun(member, f"{CONTAINERS}?target={at}", {"name": f"on-{at}", "source": pinned}) for at in ("m2", "m3")]
    within(10, "the other member downloads, too", lambda: site.asked.count(f"GET {streams.paths[1]}") == 2)
    site.release()
    for operation in (first, *made):
        assert member.get(f"{operation}/wait")["status"] == "Success"
    assert site.asked.count(f"GET {streams.paths[1]}") == 2 and len(member.get(IMAGES)) == 1


def test_a_download_can_be_cancelled(site: web.Web, member: Daemon) -> None:
    streams = Streams(site, "/cancelled")
    site.held = {streams.paths[1]}
    operation = begun(member, CONTAINERS, {"name": "c", "source": streams.source(alias="bb")})
    within(10, "it downloads", lambda: f"GET {streams.paths[1]}" in site.asked)
    assert member.get(operation)["may_cancel"]
    member.delete(operation)
    assert member.get(f"{operation}/wait")["status"] == "Cancelled"
    assert member.get(IMAGES) == [] and list((member.directory / "images").iterdir()) == []
    site.release()


def test_a_daemon_that_falls_in_a_download_leaves_nothing(site: web.Web, member: Daemon) -> None:
    streams = Streams(site, "/killed")
    site.held = {streams.paths[1]}
    begun(member, IMAGES, {"source": streams.source(alias="bb")})
    within(10, "it downloads", lambda: list((member.directory / "images").glob(".incoming-*")))
    member.kill()
    site.release()
    member.start().wait_ready()
    assert member.get(IMAGES) == [] and list((member.directory / "images").iterdir()) == []
    member.post(IMAGES, {"source": streams.source(alias="bb")})
