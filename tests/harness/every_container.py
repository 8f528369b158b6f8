"""Operations on containers for `scripts/every-line`: when the daemon has died, documents and host come to be as they
were before, or as the whole operation leaves them.

Owns the operations and that judgement; what is compared is `scene.py`'s, how one dies is `deaths.py`'s."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from lxdnode.drivers.images.busybox import assemble, find_busybox, unified
from lxdnode.raft.framing import Damaged
from tests.harness.daemons import ApiError, Cluster, unhurried, within
from tests.harness.deaths import Death, doom, is_dead, order, place, recorded, take_death
from tests.harness.namespaces import Host
from tests.harness.scene import Scene, look

FILES = (
    *(f"node/containers/{name}.py" for name in (
        "backups", "checkpoints", "containers", "data", "guest", "host", "live", "plugging", "resources", "snapshots",
        "starting", "tarballs",
    )),
    "node/images/files.py",
    "node/images/images.py",
    "node/images/publish.py",
    "node/notes.py",
    "node/storage/snapshots.py",
    "node/storage/storage.py",
    "drivers/command.py",
    "drivers/devices/disk.py",
    "drivers/devices/leftovers.py",
    "drivers/devices/links.py",
    "drivers/devices/nic.py",
    "drivers/host/cgroup.py",
    "drivers/images/pack.py",
    "drivers/images/templates.py",
    "drivers/images/unpack.py",
    "drivers/runtime/containers.py",
    "drivers/runtime/mounts.py",
    "drivers/runtime/spawning.py",
    "drivers/storage/archive.py",
    "drivers/storage/dir/driver.py",
    "drivers/storage/tree.py",
)  # fmt: skip
"""What touches the host or the log. Before any line of the rules, which read a snapshot alone, a death is the same as
before the transaction that they end in."""
_REST = 0.6
TIMES = 3
"""Each line counts this often in an operation: the first volume, the second, and what follows."""
POOL = {"name": "default", "driver": "dir"}
BRIDGE = {"name": "lxdbr0", "config": {"ipv4.address": "10.95.0.1/24", "ipv6.address": "none"}}
PROFILE = {
    "devices": {
        "root": {"type": "disk", "path": "/", "pool": "default"},
        "eth0": {"type": "nic", "nictype": "bridged", "parent": "lxdbr0", "name": "eth0"},
    },
}
TARBALL = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Home(Host):
    """A host whose mounts outlive its daemon, as a machine's do: those of the process `keeper`."""

    keeper: int

    @property
    def inhabit(self) -> list[str]:
        """What to put before a daemon."""
        return ["nsenter", "-t", str(self.keeper), "--mount", "--net", "--"]


class Ground:
    """A server with a container `witness`, isolated, that runs all the time; `name` is that of the one that operations
    are about."""

    def __init__(self, directory: Path, prefix: str, names: Sequence[str]) -> None:
        self.directory = directory
        self.cluster = Cluster(directory, 1, prefix, "10.104.0")
        self.server = self.cluster[1]
        self.prefix = prefix
        self.name, self.witness, self.other = f"{prefix}-a", f"{prefix}-b", f"{prefix}-c"
        self.share = directory / "share"
        self.tarball = b""
        self._names = names
        self._work: Work | None = None
        self._before = self._after = Scene()
        self._keeper: subprocess.Popen[bytes] | None = None

    # The server.

    def found(self) -> None:
        """The server, its image and the witness."""
        temporary = self.directory / "tmp"
        temporary.mkdir()
        self.share.mkdir()
        (self.share / "file").touch()
        self.server.extra["TMPDIR"] = str(temporary)
        doom(self.server, FILES, TIMES)
        self.cluster.switch.down()
        [host] = self.cluster.switch.up(1)
        self._keeper = subprocess.Popen([*host.inhabit, "sleep", "infinity"])
        within(10, "a keeper of mounts", lambda: Path(f"/proc/{self.keeper}/comm").read_text() == "sleep\n")
        self.server.host = Home(host.namespace, host.address, self.keeper)
        self.server.start().wait_ready()
        self.server.post("/1.0/storage-pools", POOL)
        self.server.post("/1.0/networks", BRIDGE)
        self.server.put("/1.0/profiles/default", PROFILE)
        image = self.server.ask("POST", "/1.0/images", unified(assemble(find_busybox())))
        self.server.post("/1.0/images/aliases", {"name": "bb", "target": image["metadata"]["fingerprint"]})
        self.create(self.witness)
        self.change(self.witness, "start")

    @property
    def keeper(self) -> int:
        """A process in the server's namespaces."""
        assert self._keeper is not None
        return self._keeper.pid

    def close(self) -> None:
        """Ends all that there is."""
        self.cluster.stop()
        if self._keeper is not None:
            self._keeper.kill()
            self._keeper.wait()

    # What operations are made of.

    def create(self, name: str, **fields: Any) -> None:
        """An isolated container, of the image unless its source is given."""
        config = {"security.idmap.isolated": "true"}
        source = {"type": "image", "alias": "bb"}
        self.server.post("/1.0/containers", {"name": name, "source": source, "config": config} | fields)

    def copy(self, source: str) -> None:
        """Makes the container a copy."""
        self.create(self.name, source={"type": "copy", "source": source})

    def delete(self, name: str = "") -> None:
        """Deletes a container, or with a slash a snapshot or backup: `NAME/snapshots/SNAP`."""
        self.server.delete(f"/1.0/containers/{name or self.name}")

    def change(self, name: str, action: str, **fields: Any) -> None:
        """A transition."""
        self.server.put(f"/1.0/containers/{name}/state", {"action": action} | fields)

    def stop(self) -> None:
        """At once."""
        self.change(self.name, "stop", force=True)

    def start(self) -> None:
        """Starts the container."""
        self.change(self.name, "start")

    def add(self, kind: str, name: str, container: str = "") -> None:
        """Makes a snapshot (`kind` "snapshots") or a backup."""
        self.server.post(f"/1.0/containers/{container or self.name}/{kind}", {"name": name})

    def rename(self, old: str, new: str) -> None:
        """Renames a container, snapshot or backup."""
        self.server.post(f"/1.0/containers/{old}", {"name": new})

    def mark(self, text: str) -> None:
        """Writes into a file of the container, and into its configuration."""
        self.server.ask("POST", f"/1.0/containers/{self.name}/files?path=/root/mark", text.encode())
        self.server.patch(f"/1.0/containers/{self.name}", {"config": {"user.mark": text}})

    def restore(self) -> None:
        """Restores the snapshot `one`."""
        self.server.put(f"/1.0/containers/{self.name}", {"restore": "one"})

    def publish(self, kind: str, source: str) -> None:
        """Makes an image of a container or snapshot."""
        source_ = {"type": kind, "name": source}
        self.server.post("/1.0/images", {"source": source_, "compression_algorithm": "none", "properties": {"a": "b"}})

    def withdraw(self) -> None:
        """Deletes the image that was published."""
        [found] = [one for one in self.server.get("/1.0/images?recursion=1") if one["properties"] == {"a": "b"}]
        self.server.delete(f"/1.0/images/{found['fingerprint']}")

    def export(self) -> None:
        """Keeps a backup of the container, which is gone then."""
        self.add("backups", "kept")
        path = f"/1.0/containers/{self.name}/backups/kept/export"
        self.tarball = self.server.request("GET", path)[2]
        self.delete()

    def load(self) -> None:
        """Imports the backup that was kept."""
        self.server.ask("POST", "/1.0/containers", self.tarball, TARBALL)

    def plug(self, plugged: bool) -> None:
        """Gives the container that runs a nic, a disk and limits, or takes them."""
        url = f"/1.0/containers/{self.name}"
        was = self.server.get(url)
        extra = {"limits.memory": "256MB", "limits.processes": "200"}
        config = {key: value for key, value in was["config"].items() if key not in extra} | (extra if plugged else {})
        nic = {"type": "nic", "nictype": "bridged", "parent": "lxdbr0", "name": "eth1", "limits.ingress": "100Mbit"}
        disk = {"type": "disk", "source": str(self.share), "path": "/mnt"}
        self.server.put(url, was | {"config": config, "devices": {"eth1": nic, "share": disk} if plugged else {}})

    def make(self) -> None:
        """The container, with a snapshot and a backup."""
        self.create(self.name)
        self.add("snapshots", "one")
        self.add("backups", "b")

    # Deaths.

    def record(self) -> list[Death]:
        """The deaths of each operation, one operation after the other."""
        found = []
        for name in self._names:
            self._begin(WORKS[name])
            with recorded(self.server) as lines:
                WORKS[name].act(self)
            found += [Death(name, "host", line) for line in lines]
            self._use()
            self._take_back()
        return found

    def die(self, death: Death) -> bool:
        """Whether the daemon died. Afterwards all is as before or as after, the operation succeeds, and what it leaves
        works."""
        work = WORKS[death.what]
        self._begin(work)
        outcome: list[str] = []
        order(self.server, death.line)
        command = threading.Thread(target=self._attempt, args=(work, outcome))
        command.start()
        within(120, "the command ends", lambda: is_dead(self.server) or not command.is_alive())
        died = take_death(self.server)
        command.join()
        assert died or outcome == ["done"], outcome
        if outcome == ["done"]:
            self._become("as after", self._after)
        elif self._become("as before or as after", self._before, self._after) == self._before:
            work.act(self)
            self._become("done when it is asked for again", self._after)
        self._use()
        self._take_back()
        return died

    def _attempt(self, work: "Work", outcome: list[str]) -> None:
        """It may well fail: the daemon dies meanwhile."""
        try:
            work.act(self)
            outcome.append("done")
        except (ApiError, HTTPException, OSError, ValueError) as error:
            outcome.append(f"{type(error).__name__}: {error}")

    def _begin(self, work: "Work") -> None:
        """Goes over to an operation: done and taken back twice first, since the first time leaves traces (logs)."""
        if self._work is work:
            return
        if self._work is not None:
            self._work.end(self)
        self._work = work
        work.begin(self)
        for _ in range(2):
            work.act(self)
            self._after = self._rest()
            self._use()
            work.undo(self)
            self._before = self._rest()

    def _take_back(self) -> None:
        assert self._work is not None
        self._work.undo(self)
        self._become("as before when it is taken back", self._before)

    def _use(self) -> None:
        """What there is of the container runs a command."""
        for url in self.server.get("/1.0/containers"):
            name = url.rpartition("/")[2]
            if self.server.get(f"/1.0/containers/{name}")["status"] == "Running":
                self._exec(name)
            elif self._work is not None and self._work.starts:
                self.change(name, "start")
                self._exec(name)
                self.change(name, "stop", force=True)

    def _exec(self, name: str) -> None:
        done = self.server.post(f"/1.0/containers/{name}/exec", {"command": ["true"]})
        assert done["metadata"]["return"] == 0, done

    def _look(self) -> Scene:
        return look(self.server, self.keeper, self.prefix)

    def _rest(self) -> Scene:
        """The scene once nothing has changed for a while: static leases are written a quarter of a second later."""
        seen, since = Scene(), time.monotonic()

        def rests() -> bool:
            nonlocal seen, since
            before, seen = seen, self._look()
            since = since if seen == before else time.monotonic()
            return time.monotonic() - since > _REST

        within(unhurried(20), "nothing changes", rests)
        return seen

    def _become(self, what: str, *wanted: Scene) -> Scene:
        """Waits until the scene is one of those, and returns it. AssertionError with what differs from the nearest."""
        seen = Scene()

        def is_wanted() -> bool:
            nonlocal seen
            with suppress(Damaged):  # The files of the store change while they are read.
                seen = self._look()
            return seen in wanted

        try:
            within(unhurried(20), what, is_wanted)
        except AssertionError as error:
            raise AssertionError(f"not {what}: {min((_difference(seen, one) for one in wanted), key=len)}") from error
        return seen


def _difference(seen: Scene, wanted: Scene) -> list[str]:
    more, less = seen - wanted, wanted - seen
    return [*(f"+ {line}" for line in sorted(more.elements())), *(f"- {line}" for line in sorted(less.elements()))]


def _nothing(ground: Ground) -> None:
    pass


@dataclass(frozen=True)
class Work:
    """An operation. `begin` makes what it needs, `act` is the operation itself, `undo` leads back to what was before,
    `end` back to nothing. `starts`: what is there can be started."""

    act: Callable[[Ground], None]
    undo: Callable[[Ground], None] = _nothing
    begin: Callable[[Ground], None] = _nothing
    end: Callable[[Ground], None] = _nothing
    starts: bool = True


def _on(
    act: Callable[[Ground], None],
    undo: Callable[[Ground], None] = _nothing,
    *,
    running: bool = False,
    first: Callable[[Ground], None] = _nothing,
) -> Work:
    """An operation on the container, with its snapshot `one` and backup `b`, after `first`."""

    def begin(ground: Ground) -> None:
        ground.make()
        if running:
            ground.start()
        first(ground)

    def end(ground: Ground) -> None:
        if ground.server.get(f"/1.0/containers/{ground.name}")["status"] != "Stopped":
            ground.stop()
        ground.delete()

    return Work(act, undo, begin, end, starts=not running)


def _copy(snapshot: str) -> Work:
    def begin(ground: Ground) -> None:
        ground.create(ground.other)
        for name in ("one", "two"):
            ground.add("snapshots", name, ground.other)

    return Work(lambda g: g.copy(g.other + snapshot), Ground.delete, begin, lambda g: g.delete(g.other))


def _import() -> Work:
    def begin(ground: Ground) -> None:
        ground.create(ground.name)
        ground.add("snapshots", "one")
        ground.export()

    return Work(Ground.load, Ground.delete, begin)


def _ephemeral() -> Work:
    def begin(ground: Ground) -> None:
        ground.create(ground.name, ephemeral=True)
        ground.start()

    def end(ground: Ground) -> None:
        ground.stop()

    return Work(Ground.stop, begin, begin, end)


WORKS: Mapping[str, Work] = {
    "create": Work(lambda g: g.create(g.name), Ground.delete),
    "create empty": Work(lambda g: g.create(g.name, source={"type": "none"}), Ground.delete, starts=False),
    "copy": _copy(""),
    "copy of a snapshot": _copy("/one"),
    "rename": _on(lambda g: g.rename(g.name, g.other), lambda g: g.rename(g.other, g.name)),
    "snapshot": _on(lambda g: g.add("snapshots", "two"), lambda g: g.delete(f"{g.name}/snapshots/two")),
    "snapshot rename": _on(
        lambda g: g.rename(f"{g.name}/snapshots/one", "two"), lambda g: g.rename(f"{g.name}/snapshots/two", "one")
    ),
    "snapshot delete": _on(lambda g: g.delete(f"{g.name}/snapshots/one"), lambda g: g.add("snapshots", "one")),
    "restore": _on(Ground.restore, lambda g: g.mark("now")),
    "restore running": _on(Ground.restore, lambda g: g.mark("now"), running=True),
    "publish": _on(lambda g: g.publish("container", g.name), Ground.withdraw),
    "publish a snapshot": _on(lambda g: g.publish("snapshot", f"{g.name}/one"), Ground.withdraw),
    "backup": _on(lambda g: g.add("backups", "c"), lambda g: g.delete(f"{g.name}/backups/c")),
    "backup running": _on(lambda g: g.add("backups", "c"), lambda g: g.delete(f"{g.name}/backups/c"), running=True),
    "backup rename": _on(
        lambda g: g.rename(f"{g.name}/backups/b", "c"), lambda g: g.rename(f"{g.name}/backups/c", "b")
    ),
    "backup delete": _on(lambda g: g.delete(f"{g.name}/backups/b"), lambda g: g.add("backups", "b")),
    "import": _import(),
    "start": _on(Ground.start, Ground.stop),
    "stop": _on(lambda g: g.change(g.name, "stop", timeout=30), Ground.start, running=True),
    "stop forced": _on(Ground.stop, Ground.start, running=True),
    "stop ephemeral": _ephemeral(),
    "restart": _on(lambda g: g.change(g.name, "restart", timeout=30), running=True),
    "restart forced": _on(lambda g: g.change(g.name, "restart", force=True), running=True),
    "freeze": _on(lambda g: g.change(g.name, "freeze"), lambda g: g.change(g.name, "unfreeze"), running=True),
    "unfreeze": _on(
        lambda g: g.change(g.name, "unfreeze"),
        lambda g: g.change(g.name, "freeze"),
        running=True,
        first=lambda g: g.change(g.name, "freeze"),
    ),
    "plug": _on(lambda g: g.plug(True), lambda g: g.plug(False), running=True),
    "unplug": _on(lambda g: g.plug(False), lambda g: g.plug(True), running=True),
    "delete": Work(Ground.delete, Ground.make, Ground.make, Ground.delete),
}
"""The operations by name. A running container is not renamed: that is refused."""


@contextmanager
def founded(names: Sequence[str] | None = None) -> Iterator[Ground]:
    """A server for operations of these names, None is all."""
    with place() as directory:
        ground = Ground(directory, f"le{os.getpid():x}", list(names or WORKS))
        try:
            ground.found()
            yield ground
        finally:
            ground.close()
