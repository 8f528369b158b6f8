"""Every refusal that the specification words for containers and what belongs to them, row by row: status and text.

The rows of one server and of a few containers in all their states. Rows of the specification that are not here: those
of a runtime before LXC 3.0 and of processes that were kept (where there is no CRIU), a name that 100 draws do not find
(`test_container_rules.py`), an instance type of two clouds (there is none), a monitor that hangs (none is asked), a
stop that times out and one that is waited for (`test_containers_lifecycle.py`), zfs, ceph and AppArmor."""

from typing import Any

import pytest

from tests.harness.daemons import Daemon
from tests.harness.refusals import CONTAINERS as C
from tests.harness.refusals import OPERATION as OP
from tests.harness.refusals import Row, rows

pytestmark = pytest.mark.slow

NONE = {"type": "none"}
OCTETS = {"Content-Type": "application/octet-stream"}
ROOT = {"type": "disk", "path": "/", "pool": "default"}
ELSEWHERE = {"root": ROOT | {"pool": "other"}}
HOSTNAME = "Container name isn't a valid hostname."


@pytest.fixture(scope="module")
def names(server: Daemon, image: bytes) -> dict[str, str]:
    """Containers `off` (stopped, with snapshots and a backup), `run`, `ice` (frozen), `bare` (of no image) and `safe`
    (protected); another pool, and profiles with root disks."""
    fingerprint = server.ask("POST", "/1.0/images", image)["metadata"]["fingerprint"]
    server.post("/1.0/storage-pools", {"name": "other", "driver": "dir"})
    server.post("/1.0/profiles", {"name": "rootless"})
    server.post("/1.0/profiles", {"name": "elsewhere", "devices": ELSEWHERE})
    server.post("/1.0/profiles", {"name": "second", "devices": {"second": ROOT}})
    source = {"type": "image", "fingerprint": fingerprint}
    for name in ("off", "run", "ice"):
        server.post(C, {"name": name, "source": source})
    server.post(C, {"name": "bare", "source": NONE, "devices": {"root": ROOT}})
    server.post(C, {"name": "safe", "source": NONE, "config": {"security.protection.delete": "true"}})
    server.post(f"{C}/off/snapshots", {"name": "s0"})
    server.post(f"{C}/off/snapshots", {"name": "s1"})
    server.post(f"{C}/off/backups", {"name": "b0"})
    for name in ("run", "ice"):
        server.put(f"{C}/{name}/state", {"action": "start"})
    server.put(f"{C}/ice/state", {"action": "freeze"})
    return {"image": fingerprint}


def create(code: int, words: str, **body: object) -> Row:
    """A row of POST /1.0/containers."""
    return Row("POST", C, {"name": "x", "source": NONE} | body, code, words)


def image(code: int, words: str, **source: object) -> Row:
    return create(code, words, source={"type": "image"} | source)


def migration(code: int, words: str, name: str = "x", **more: Any) -> Row:
    """A row of a container that comes from another server; `more` are fields of the source, or of the body."""
    body = {field: more.pop(field) for field in ("architecture", "config", "profiles") if field in more}
    return create(code, words, **{"name": name, "architecture": "x86_64"} | body, source={"type": "migration"} | more)


@rows(
    Row("POST", C, b"{", 400, "...", {"Content-Type": "application/json"}),
    create(400, "...", name=5),
    create(400, "...", config={"user.a": 1}),
    create(400, "Invalid container name: '/' is reserved for snapshots", name="a/b"),
    *(create(OP, HOSTNAME, name=name) for name in ("-a", "a-", "1a", "a.b", "a_b", "x" * 64)),
    create(OP, "Container 'off' already exists", name="off"),
    create(400, "unknown source type dance", source={"type": "dance"}),
    create(400, "unknown source type ", source={}),
    create(OP, "Requested profile 'nobody' doesn't exist", profiles=["nobody"]),
    create(OP, "Duplicate profile found in request", profiles=["default", "default"]),
    create(
        OP, "The container's root device is missing the pool property.", devices={"root": {"type": "disk", "path": "/"}}
    ),
    create(OP, 'The "nobody" storage pool doesn\'t exist.', devices={"root": ROOT | {"pool": "nobody"}}),
    create(OP, "No root device could be found.", profiles=[]),
    create(OP, "More than one root device found.", profiles=["default", "second"]),
    create(OP, "Requested architecture isn't supported by this host", architecture="s390x"),
    create(500, "Architecture isn't supported: vax", architecture="vax"),
    create(400, "Bad instance type: a:b:c", instance_type="a:b:c"),
    create(400, "Provided instance type doesn't exist: nosuch", instance_type="nosuch"),
    create(OP, "Unknown configuration key: no.such", config={"no.such": "1"}),
    Row("POST", f"{C}?target=nobody", {"name": "x", "source": NONE}, 500, "No cluster member called 'nobody'"),
    image(400, "Must specify one of alias, fingerprint or properties for init from image"),
    image(
        400, "Must specify one of alias, fingerprint or properties for init from image", server="https://127.0.0.1:1"
    ),
    image(
        400, "Property match is only supported for local images", server="https://127.0.0.1:1", properties={"os": "x"}
    ),
    image(400, "No matching image could be found", properties={"os": "no such"}),
    image(404, "not found", alias="nobody"),
    image(404, "not found", fingerprint="0123456789"),
    create(400, "must specify a source container", source={"type": "copy"}),
    create(404, "not found", source={"type": "copy", "source": "nobody"}),
    *(create(404, "not found", source={"type": "copy", "source": source}) for source in ("off/nobody", "off/")),
    create(
        400,
        'Copying stateful containers requires that source "off" and target "x" name be identical',
        source={"type": "copy", "source": "off"},
        stateful=True,
    ),
    create(OP, "Container 'run' already exists", name="run", source={"type": "copy", "source": "off"}),
    migration(501, "Mode 'dance' not implemented", mode="dance"),
    migration(400, "Architecture isn't supported: ", architecture="", mode="push"),
    migration(400, "Requested profile 'nobody' doesn't exist", profiles=["nobody"], mode="push"),
    migration(500, "Container 'off' already exists", name="off", mode="push"),
    migration(500, HOSTNAME, name="-a", mode="push"),
    migration(500, "Unknown configuration key: no.such", mode="push", config={"no.such": "1"}),
    migration(500, "Missing control secret", mode="pull", operation="https://127.0.0.1:1/1.0/operations/x"),
    migration(
        500,
        "Missing fs secret",
        mode="pull",
        operation="https://127.0.0.1:1/1.0/operations/x",
        secrets={"control": "x"},
    ),
    Row("POST", C, b"no tarball", 400, "...", OCTETS),
)
def test_creation(server: Daemon, names: dict[str, str], row: Row) -> None:
    row.check(server, names)


def update(words: str, name: str = "bare", **body: object) -> list[Row]:
    """Rows of PUT, which fails later, and of PATCH, which fails at once."""
    body = {"devices": {"root": ROOT}, "profiles": ["default"]} | body
    return [Row("PUT", f"{C}/{name}", body, OP, words), Row("PATCH", f"{C}/{name}", body, 500, words)]


RELY = "Update will cause the container to rely on a profile's root disk device but"


@rows(
    *(Row(method, f"{C}/nobody", {}, 404, "not found") for method in ("GET", "PUT", "PATCH", "POST", "DELETE")),
    *(Row(method, f"{C}/off", {}, 412, "ETag doesn't match: ...", {"If-Match": "abc"}) for method in ("PUT", "PATCH")),
    *(Row(method, f"{C}/off", b"{", 400, "...") for method in ("PUT", "PATCH", "POST")),
    *(Row(method, f"{C}/nobody", b"{", 404, "not found", {"If-Match": "abc"}) for method in ("PUT", "PATCH")),
    Row("PATCH", f"{C}/off", {"restore": "s0"}, 400, "Can't call PATCH in restore mode."),
    *update("Profile doesn't exist: nobody", profiles=["nobody"]),
    *update("Unknown configuration key: no.such", config={"no.such": "1"}),
    Row("PUT", f"{C}/bare", {"profiles": ["rootless"]}, OP, f"{RELY} none was found."),
    Row("PUT", f"{C}/bare", {"profiles": ["default", "second"]}, OP, f"{RELY} conflicting devices were found."),
    Row(
        "PUT",
        f"{C}/bare",
        {"profiles": ["elsewhere"]},
        OP,
        "Using the profile's root disk device would change the storage pool of the container.",
    ),
    *update("The new local root disk device would change the storage pool of the container.", devices=ELSEWHERE),
    Row("PUT", f"{C}/off", {"restore": "nobody"}, OP, "snapshot off/nobody does not exist"),
    Row("PUT", f"{C}/off", {"restore": "off/nobody"}, OP, "snapshot off/nobody does not exist"),
    Row(
        "PUT",
        f"{C}/off",
        {"restore": "s0", "stateful": True},
        OP,
        "Stateful snapshot restore requested by snapshot is stateless",
    ),
    Row("DELETE", f"{C}/run", None, 400, "container is running"),
    Row("DELETE", f"{C}/ice", None, 400, "container is running"),
    Row("DELETE", f"{C}/safe", None, OP, "Container is protected"),
    Row("POST", f"{C}/off", {"name": "run"}, 409, "Name 'run' already in use"),
    Row("POST", f"{C}/run", {"name": "x"}, OP, "Renaming of running container not allowed"),
    *(Row("POST", f"{C}/off", {"name": name}, OP, "Invalid container name") for name in ("-a", "", "a/b")),
    Row("POST", f"{C}/off?target=nobody", {"name": "off", "migration": True}, 500, "No cluster member called 'nobody'"),
    Row(
        "POST",
        f"{C}/run",
        {"name": "y", "migration": True},
        500,
        "Unable to perform container live migration. CRIU isn't installed on the source server.",
    ),
    *(Row(method, C, {}, 501, "not implemented") for method in ("PUT", "PATCH", "DELETE")),
)
def test_changes(server: Daemon, names: dict[str, str], row: Row) -> None:
    row.check(server, names)


def state(name: str, code: int, words: str, action: str, **more: object) -> Row:
    return Row("PUT", f"{C}/{name}/state", {"action": action} | more, code, words)


@rows(
    Row("GET", f"{C}/nobody/state", None, 404, "not found"),
    state("nobody", 404, "not found", "start"),
    state("off", 400, "unknown action dance", "dance"),
    state("off", 400, "unknown action ", ""),
    Row("PUT", f"{C}/off/state", {"action": "stop", "timeout": "soon"}, 400, "..."),
    state("run", OP, "The container is already running", "start"),
    state("ice", OP, "The container is already running", "start"),
    state("off", OP, "Container has no existing state to restore.", "start", stateful=True),
    state("off", OP, "The container is already stopped", "stop"),
    state("off", OP, "The container is already stopped", "stop", force=True),
    state("off", OP, "The container is already stopped", "restart"),
    state("ice", OP, "container is not running", "restart"),
    state("ice", OP, "The container is already frozen", "freeze"),
    state("off", OP, "The container isn't running", "freeze"),
    state("off", OP, "The container is already running", "unfreeze"),
    state("run", OP, "The container is already running", "unfreeze"),
)
def test_states(server: Daemon, names: dict[str, str], row: Row) -> None:
    row.check(server, names)


S, B = f"{C}/off/snapshots", f"{C}/off/backups"


@rows(
    Row("GET", f"{C}/nobody/snapshots", None, 404, "not found"),
    Row("POST", f"{C}/nobody/snapshots", {}, 404, "not found"),
    Row("POST", S, {"name": "a/b"}, 400, "Snapshot names may not contain slashes"),
    Row("POST", S, {"name": 5}, 400, "..."),
    Row("POST", S, {"name": "s0"}, OP, "Snapshot 'off/s0' already exists"),
    Row(
        "POST",
        S,
        {"name": "s2", "stateful": True},
        OP,
        "Unable to create a stateful snapshot. The container isn't running.",
    ),
    *(Row(method, f"{S}/nobody", {}, 404, "not found") for method in ("GET", "POST", "DELETE")),
    *(Row(method, f"{S}/s0", {}, 501, "not implemented") for method in ("PUT", "PATCH")),
    Row("POST", f"{S}/s0", {"name": "a/b"}, 400, "Snapshot names may not contain slashes"),
    Row("POST", f"{S}/s0", {"name": "s1"}, 409, "Name 'off/s1' already in use"),
    Row("POST", f"{S}/s0", {"migration": True}, 400, "A new name for the container must be provided"),
    Row("GET", f"{C}/nobody/backups", None, 404, "not found"),
    Row("POST", f"{C}/nobody/backups", {}, 404, "not found"),
    Row("POST", B, {"name": "a/b"}, 400, "Backup names may not contain slashes"),
    Row("POST", B, {"name": "b0"}, OP, "backup 'off/b0' already exists"),
    Row("POST", B, {"name": "b1", "expiry": "soon"}, 400, "..."),
    *(Row(method, f"{B}/nobody", {"name": "x"}, 404, "not found") for method in ("GET", "POST", "DELETE")),
    Row("GET", f"{B}/nobody/export", None, 404, "not found"),
    Row("POST", f"{B}/b0", {"name": "a/b"}, 400, "Backup names may not contain slashes"),
    *(Row("POST", f"{B}/b0", {"name": name}, 400, f"Invalid backup name: {name!r}") for name in ("", "..")),
    Row("POST", f"{B}/b0", {"name": "b0"}, OP, "backup 'off/b0' already exists"),
)
def test_snapshots_and_backups(server: Daemon, names: dict[str, str], row: Row) -> None:
    row.check(server, names)


@rows(
    Row("POST", f"{C}/nobody/exec", {"command": ["true"]}, 404, "not found"),
    Row("POST", f"{C}/off/exec", {"command": ["true"]}, 400, "Container is not running."),
    Row("POST", f"{C}/ice/exec", {"command": ["true"]}, 400, "Container is frozen."),
    Row("POST", f"{C}/run/exec", {"command": "true"}, 400, "..."),
    *(
        Row(
            "POST",
            f"{C}/run/exec",
            {"command": ["true"]} | more,
            400,
            "A command and its environment hold no zero bytes",
        )
        for more in ({"command": ["a\0b"]}, {"environment": {"A": "\0"}}, {"environment": {"\0": "A"}})
    ),
    Row("POST", f"{C}/nobody/console", {}, 404, "not found"),
    Row("POST", f"{C}/off/console", {}, 400, "Container is not running"),
    Row("POST", f"{C}/ice/console", {}, 400, "Container is frozen"),
    *(Row(method, f"{C}/nobody/console", None, 404, "not found") for method in ("GET", "DELETE")),
    Row("GET", f"{C}/off/console", None, 500, "..."),
    Row("GET", f"{C}/nobody/logs", None, 404, "not found"),
    *(
        Row(method, f"{C}/run/logs/{file}", None, 400, f"log file name {file} not valid")
        for method in ("GET", "DELETE")
        for file in ("console.log", "lxc.log.old", "forkexec.log", "..")
    ),
    *(
        Row("DELETE", f"{C}/run/logs/{file}", None, 400, "lxc.log and lxc.conf may not be deleted")
        for file in ("lxc.log", "lxc.conf")
    ),
    *(Row(method, f"{C}/run/logs/exec_none", None, 500, "...") for method in ("GET", "DELETE")),
)
def test_commands_consoles_and_logs(server: Daemon, names: dict[str, str], row: Row) -> None:
    row.check(server, names)


def post(name: str, path: str, code: int, words: str, body: bytes = b"", **headers: str) -> Row:
    return Row(
        "POST",
        f"{C}/{name}/files?path={path}",
        body,
        code,
        words,
        {f"X-LXD-{key}": value for key, value in headers.items()},
    )


@rows(
    *(
        Row(method, f"{C}/{name}/files", b"", 400, "missing path argument")
        for method in ("GET", "POST", "DELETE")
        for name in ("run", "off")
    ),
    *(Row(method, f"{C}/nobody/files?path=/etc", b"", 404, "not found") for method in ("GET", "POST", "DELETE")),
    *(
        Row(method, f"{C}/{name}/files?path=/no/such", None, 404, "not found")
        for method in ("GET", "DELETE")
        for name in ("run", "off")
    ),
    *(Row("DELETE", f"{C}/{name}/files?path=/etc", None, 500, "...") for name in ("run", "off")),
    *(
        row
        for name in ("run", "off")
        for row in (
            post(name, "/root/x", 400, "Bad file write mode: sideways", write="sideways"),
            post(name, "/root/x", 400, "Bad file type: pipe", type="pipe"),
            post(name, "/no/such/file", 500, "file does not exist"),
            post(name, "/no/such/file", 500, "file does not exist", write="append"),
            post(name, "/no/such/folder", 500, "file does not exist", type="directory"),
            post(name, "/no/such/link", 500, "file does not exist", b"target", type="symlink"),
            post(name, "/etc", 500, "Path already exists as a directory..."),
        )
    ),
)
def test_files(server: Daemon, names: dict[str, str], row: Row) -> None:
    row.check(server, names)


M = f"{C}/off/metadata"
T = f"{M}/templates"


@rows(
    *(Row(method, f"{C}/nobody/metadata", {}, 404, "not found") for method in ("GET", "PUT")),
    Row("GET", f"{C}/bare/metadata", None, 500, "..."),
    Row("PUT", M, b"{", 400, "..."),
    Row("PUT", M, {"properties": {"os": 5}}, 400, "..."),
    *(
        Row(method, f"{C}/nobody/metadata/templates?path=a", b"", 404, "not found")
        for method in ("GET", "POST", "PUT", "DELETE")
    ),
    *(Row(method, T, b"", 400, "missing path argument") for method in ("POST", "PUT", "DELETE")),
    *(
        Row(method, f"{T}?path={name}", b"x", 500, "Invalid template filename")
        for method in ("GET", "POST", "PUT", "DELETE")
        for name in ("a/b", "../metadata.yaml")
    ),
    *(Row(method, f"{T}?path=nobody", None, 404, "Path 'nobody' not found") for method in ("GET", "DELETE")),
    Row("POST", f"{T}?path=hostname.tpl", b"x", 400, "Template already exists"),
)
def test_metadata_and_templates(server: Daemon, names: dict[str, str], row: Row) -> None:
    row.check(server, names)
