"""Images made of containers and snapshots, through real daemons (spec/images.md 3)."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.daemons import ApiError, Daemon

pytestmark = pytest.mark.slow

IMAGES = "/1.0/images"


@pytest.fixture(scope="module")
def container(server: Daemon, image: bytes) -> Iterator[str]:
    """A stopped container with a snapshot `before`, whose file `/root/mark` says `first`, and `second` now."""
    done = server.ask("POST", IMAGES, image)
    source = {"type": "image", "fingerprint": done["metadata"]["fingerprint"]}
    server.post("/1.0/containers", {"name": "c1", "source": source})
    server.ask("POST", "/1.0/containers/c1/files?path=/root/mark", b"first")
    server.post("/1.0/containers/c1/snapshots", {"name": "before"})
    server.ask("POST", "/1.0/containers/c1/files?path=/root/mark", b"second")
    yield "c1"
    server.lxc("delete", "--force", "c1")


@pytest.fixture
def published(server: Daemon, container: str) -> Iterator[Any]:
    """Publishes `name` of a type, with fields, and returns the fingerprint; all that it made is gone afterwards."""
    made = []

    def publish(kind: str, name: str, **fields: object) -> str:
        done = server.post(IMAGES, {"source": {"type": kind, "name": name}} | fields)
        made.append(done["metadata"]["fingerprint"])
        assert done["metadata"]["size"] == str(len(export(server, made[-1])))
        return made[-1]

    yield publish
    for fingerprint in made:
        server.lxc("image", "delete", fingerprint, check=False)


def export(server: Daemon, fingerprint: str) -> bytes:
    """The file of an image."""
    return server.request("GET", f"{IMAGES}/{fingerprint}/export")[2]


def mark(server: Daemon, fingerprint: str) -> str:
    """What the mark in an image says."""
    with tarfile.open(fileobj=io.BytesIO(export(server, fingerprint))) as archive:
        file = archive.extractfile("rootfs/root/mark")
        assert file is not None
        return file.read().decode()


def test_a_container_and_its_snapshot_become_images(server: Daemon, container: str, published: Any) -> None:
    assert mark(server, published("container", container)) == "second"
    fingerprint = published("snapshot", f"{container}/before", properties={"os": "Then"}, public=True)
    assert mark(server, fingerprint) == "first"
    shown = server.get(f"{IMAGES}/{fingerprint}")
    assert (shown["properties"], shown["public"]) == ({"os": "Then"}, True)
    assert shown["expires_at"] == "0001-01-01T00:00:00Z" and shown["created_at"][:10] == shown["uploaded_at"][:10]
    assert hashlib.sha256(export(server, fingerprint)).hexdigest() == fingerprint


def test_a_snapshot_of_a_running_container_is_published(server: Daemon, container: str, published: Any) -> None:
    server.put(f"/1.0/containers/{container}/state", {"action": "start"})
    with pytest.raises(ApiError, match="^Cannot export a running container as an image$"):
        published("container", container)
    server.lxc("publish", f"{container}/before", "--alias", "then", "os=Then")
    fingerprint = server.get(f"{IMAGES}/aliases/then")["target"]
    assert mark(server, fingerprint) == "first"
    server.put(f"/1.0/containers/{container}/state", {"action": "stop", "force": True})
    server.delete(f"{IMAGES}/{fingerprint}")


@pytest.mark.extension("image_compression_algorithm")
def test_the_compression_is_the_requests_or_the_servers(server: Daemon, container: str, published: Any) -> None:
    heads = {"none": b"metadata.yaml", "xz": b"\xfd7zXZ", "bzip2": b"BZh", "gzip": b"\x1f\x8b"}
    for algorithm, head in heads.items():
        fingerprint = published("container", container, compression_algorithm=algorithm)
        assert export(server, fingerprint).startswith(head)
        again = {"source": {"type": "container", "name": container}, "compression_algorithm": algorithm}
        with pytest.raises(ApiError, match=f"^The image already exists: {fingerprint}$"):  # Equal content, equal hash.
            server.post(IMAGES, again)
    server.patch("/1.0", {"config": {"images.compression_algorithm": "xz"}})
    fingerprint = published("snapshot", f"{container}/before")
    assert export(server, fingerprint).startswith(b"\xfd7zXZ")
    server.patch("/1.0", {"config": {"images.compression_algorithm": ""}})
    with pytest.raises(ApiError, match='^Invalid compression algorithm "no-such"$'):
        published("container", container, compression_algorithm="no-such")


def test_what_cannot_be_published_is_refused_with_lxds_words(server: Daemon, container: str, published: Any) -> None:
    for kind, name, words in [
        ("container", "", "No source provided"),
        ("snapshot", "", "No source provided"),
        ("snapshot", container, "Not a snapshot"),
        ("container", f"{container}/before", "This is a snapshot"),
        ("snapshot", f"{container}/nobody", "not found"),
        ("container", "nobody", "not found"),
    ]:
        with pytest.raises(ApiError) as refusal:
            published(kind, name)
        assert str(refusal.value) == words
