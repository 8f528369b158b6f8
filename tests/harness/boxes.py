"""Containers whose devices come and go, on a member that is not the one that is asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.harness.daemons import Cluster, Daemon


class Box:
    """A container on the first member that is asked through the second one."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.api: Daemon = cluster[2]
        self.holder: Daemon = cluster[1]
        self.name = name
        self.url = f"/1.0/containers/{name}"

    def plug(self, **devices: dict[str, str]) -> None:
        """Adds devices, or changes them."""
        self.api.patch(self.url, {"devices": devices})

    def unplug(self, *names: str) -> None:
        shown = self.api.get(self.url)
        devices = {name: device for name, device in shown["devices"].items() if name not in names}
        kept = {key: shown[key] for key in ("config", "profiles", "ephemeral", "description")}
        self.api.put(self.url, kept | {"devices": devices})

    def restart(self) -> None:
        self.api.put(f"{self.url}/state", {"action": "restart", "force": True})

    def run(self, *command: str) -> str:
        """What a command writes; it must end well."""
        return self.api.lxc("exec", "-T", self.name, "--", *command).stdout.decode()

    def fails(self, *command: str) -> bool:
        return self.api.lxc("exec", "-T", self.name, "--", *command, check=False).returncode != 0

    def sees(self, path: str) -> bool:
        return not self.fails("test", "-e", path)

    def network(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"{self.url}/state")["network"]
        return found


Make = Callable[..., Box]


@contextmanager
def boxes(cluster: Cluster, fingerprint: str) -> Iterator[Make]:
    """What makes running containers, which are gone after the block, with all that was kept for their devices."""
    made: list[Box] = []

    def create(**fields: Any) -> Box:
        box = Box(cluster, f"dev-{len(made)}")
        made.append(box)
        body = {"name": box.name, "source": {"type": "image", "fingerprint": fingerprint}}
        box.api.post("/1.0/containers?target=m1", body | fields)
        box.api.put(f"{box.url}/state", {"action": "start"})
        return box

    yield create
    for box in made:
        box.api.lxc("delete", "--force", box.name, check=False)
        left = [path.name for path in (box.holder.directory / "devices").glob(f"{box.name}/*.*")]
        assert not left
