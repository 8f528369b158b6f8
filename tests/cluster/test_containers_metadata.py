"""metadata.yaml and templates of a container through the API, through any member, and what becomes of them."""

import json
from collections.abc import Iterator

import pytest

from tests.harness.daemons import ApiError, Cluster, Daemon

pytestmark = pytest.mark.slow

IMAGES = "/1.0/images"


@pytest.fixture(scope="module")
def container(cluster: Cluster, image: bytes) -> Iterator[str]:
    """A stopped container on the second member."""
    done = cluster[1].ask("POST", IMAGES, image)
    source = {"type": "image", "fingerprint": done["metadata"]["fingerprint"]}
    cluster[1].post("/1.0/containers?target=m2", {"name": "c1", "source": source})
    yield "c1"
    cluster[1].lxc("delete", "--force", "c1")


def url(container: str, template: str | None = None) -> str:
    """Where the metadata, or a template, of a container is."""
    return f"/1.0/containers/{container}/metadata" + (f"/templates?path={template}" if template else "")


def content(member: Daemon, container: str, template: str) -> bytes:
    """A template as it is."""
    return member.request("GET", url(container, template))[2]


@pytest.mark.extension("container_edit_metadata")
def test_metadata_and_templates_are_edited_through_any_member(cluster: Cluster, container: str) -> None:
    first, third = cluster[1], cluster[3]
    shown = first.get(url(container))
    assert set(shown) == {"architecture", "creation_date", "expiry_date", "properties", "templates"}
    entry = {"when": ["start"], "create_only": False, "template": "mine.tpl", "properties": {"greeting": "hello"}}
    changed = shown | {"properties": {"os": "Mine"}, "templates": shown["templates"] | {"/etc/mine": entry}}
    third.put(url(container), changed)
    assert first.get(url(container)) == changed
    before = first.get(f"{url(container)}/templates")
    first.ask("POST", url(container, "mine.tpl"), b"{{ properties.greeting }} from {{ container.name }}\n")
    with pytest.raises(ApiError, match="^Template already exists$"):
        first.ask("POST", url(container, "mine.tpl"), b"x")
    assert third.get(f"{url(container)}/templates") == sorted([*before, "mine.tpl"])
    assert content(third, container, "mine.tpl") == b"{{ properties.greeting }} from {{ container.name }}\n"
    # A start renders them.
    third.put(f"/1.0/containers/{container}/state", {"action": "start"})
    assert first.lxc("exec", "-T", container, "--", "cat", "/etc/mine").stdout == b"hello from c1\n"
    third.put(f"/1.0/containers/{container}/state", {"action": "stop", "force": True})
    # A published image has them.
    done = first.post(IMAGES, {"source": {"type": "container", "name": container}})
    fingerprint = done["metadata"]["fingerprint"]
    assert first.get(f"{IMAGES}/{fingerprint}")["properties"] == {"os": "Mine"}
    first.delete(f"{IMAGES}/{fingerprint}")
    first.put(url(container), shown)
    first.delete(url(container, "mine.tpl"))
    assert third.get(f"{url(container)}/templates") == before


def test_the_client_edits_them(cluster: Cluster, container: str) -> None:
    first = cluster[1]
    first.lxc("config", "template", "create", container, "empty.tpl")
    first.lxc("config", "template", "edit", container, "empty.tpl", stdin=b"no longer\n")
    assert first.lxc("config", "template", "show", container, "empty.tpl").stdout == b"no longer\n"
    assert b"empty.tpl" in first.lxc("config", "template", "list", container).stdout
    first.lxc("config", "template", "delete", container, "empty.tpl")
    shown = first.lxc("config", "metadata", "show", container).stdout
    first.lxc("config", "metadata", "edit", container, stdin=shown + b"expiry_date: 5\n")
    assert first.get(url(container))["expiry_date"] == 5


def test_what_is_wrong_is_refused_with_lxds_words(cluster: Cluster, container: str) -> None:
    for method, path, code, words in [
        ("POST", f"{url(container)}/templates", 400, "missing path argument"),
        ("PUT", f"{url(container)}/templates", 400, "missing path argument"),
        ("DELETE", f"{url(container)}/templates", 400, "missing path argument"),
        ("POST", url(container, "a/b"), 500, "Invalid template filename"),
        ("PUT", url(container, ".."), 500, "Invalid template filename"),
        ("DELETE", url(container, "nobody"), 404, "Path 'nobody' not found"),
        ("GET", url(container, "nobody"), 404, "Path 'nobody' not found"),
        ("GET", url("nobody"), 404, "not found"),
    ]:
        for member in (cluster[1], cluster[2]):
            status, _, body = member.request(method, path, b"" if method in ("POST", "PUT") else None)
            assert (status, json.loads(body)["error"]) == (code, words)


def test_links_in_an_image_lead_nowhere(cluster: Cluster, container: str) -> None:
    volume = cluster[2].directory / "containers" / container
    link, secret = volume / "templates/link", cluster[2].directory / "server.key"
    link.symlink_to(secret)
    status, _, body = cluster[2].request("GET", url(container, "link"))
    assert status == 500 and b"KEY" not in body
    before = secret.read_bytes()
    cluster[2].ask("PUT", url(container, "link"), b"replaced")  # The link itself, not what it names.
    assert secret.read_bytes() == before and content(cluster[1], container, "link") == b"replaced"
    cluster[2].delete(url(container, "link"))
