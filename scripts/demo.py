"""The demo behind scripts/run: daemons that stay, a pool, a bridge, an image built on the spot, and a container.

It is the tests' harness kept alive: what a test starts and what a user sees first are started the same way."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.harness.daemons import LXD_NODE, PASSWORD, Cluster, Daemon

DEFAULT = Path("/var/lib/lxd-node-demo")
PREFIX, NETWORK = "lxdnode", "10.94.0"
_ROOT = Path(__file__).parent.parent


def main() -> None:
    """Starts or stops the demo."""
    options = _parse()
    if options.stop:
        stop(options.dir)
        return
    members = _members(options.dir, options.members)
    fresh = not (options.dir / "m1" / "raft").exists()
    for member in members:
        _start(member)
    if fresh:
        _form(members)
    _launch(members)
    _explain(members, options.dir)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/run", description="Start lxd-node and launch a container.")
    parser.add_argument("--members", type=int, default=1, help="1: on this host; more: a cluster in namespaces")
    parser.add_argument("--dir", type=Path, default=DEFAULT, help=f"where the state is kept ({DEFAULT})")
    parser.add_argument("--stop", action="store_true", help="end it; only the data directory stays")
    options = parser.parse_args()
    if not 1 <= options.members <= 20:
        parser.error("--members takes 1 to 20")
    options.dir = options.dir.absolute()
    return options


def _members(directory: Path, count: int) -> list[Daemon]:
    """The members whose state is in `directory`; what was started before decides, not the option."""
    existing = len(list(directory.glob("m[0-9]*/raft")))
    if existing and existing != count:
        print(f"{directory} holds {existing} member(s): going on with these", file=sys.stderr)
        count = existing
    if count == 1:
        return [Daemon(directory / "m1")]
    cluster = Cluster(directory, count, PREFIX, NETWORK)
    cluster.switch.up(count)
    return cluster.members


def _start(member: Daemon) -> None:
    try:
        member.get("/internal/ready")
    except OSError:
        member.start()
    member.wait_ready(30)


def _form(members: list[Daemon]) -> None:
    """Gives the first member what `lxd-node init --auto` gives, and joins the others to it."""
    first = members[0]
    if len(members) == 1:
        first.command("init", "--auto")
        return
    cluster = Cluster(first.directory.parent, len(members), PREFIX, NETWORK)
    cluster.form(
        storage_pools=[{"name": "default", "driver": "dir"}],
        networks=[
            {
                "name": "lxdbr0",
                "type": "bridge",
                "config": {"ipv4.address": "10.95.0.1/24", "ipv4.nat": "true", "ipv6.address": "none"},
            }
        ],
        profiles=[
            {
                "name": "default",
                "devices": {
                    "root": {"type": "disk", "path": "/", "pool": "default"},
                    "eth0": {"type": "nic", "nictype": "bridged", "parent": "lxdbr0", "name": "eth0"},
                },
            }
        ],
    )


def _launch(members: list[Daemon]) -> None:
    first = members[0]
    aliases: list[Any] = first.get("/1.0/images/aliases")
    if "/1.0/images/aliases/busybox" not in aliases:
        image = first.directory.parent / "busybox.tar.gz"
        subprocess.run([str(_ROOT / "scripts" / "build-image"), str(image)], check=True)
        first.lxc("image", "import", str(image), "--alias", "busybox")
    for number, member in enumerate(members, 1):
        name = f"demo{number}"
        if f"/1.0/containers/{name}" not in first.get("/1.0/containers"):
            target = ["--target", member.name] if len(members) > 1 else []
            first.lxc("launch", "busybox", name, *target)


def _explain(members: list[Daemon], directory: Path) -> None:
    first = members[0]
    show = ["env", f"LXD_DIR={first.directory}"]
    subprocess.run([*show, "lxc", "list"], check=True)
    subprocess.run([*show, str(LXD_NODE), "cluster", "list"], check=True)
    option = f" --dir {directory}" if directory != DEFAULT else ""
    print(f"Go on:   LXD_DIR={first.directory} lxc exec demo1 -- sh")
    if len(members) > 1:
        print(
            f"         nsenter --net=/run/netns/{PREFIX}1 lxc remote add demo {first.address}   (password: {PASSWORD})"
        )
        print(f"         LXD_DIR={members[1].directory} lxc list     the same through another member")
    print(f"Stop:    scripts/run --stop{option}")


def stop(directory: Path) -> None:
    """Ends daemons, containers, bridges and namespaces; keeps the data."""
    members = sorted(path for path in directory.glob("m[0-9]*") if path.is_dir() and "." not in path.name)
    for path in members:
        member = Daemon(path)
        if member.socket.exists():
            done = subprocess.run([str(LXD_NODE), "shutdown", "--dir", str(path), "--timeout", "60"], check=False)
            if done.returncode:
                print(f"{path.name} did not end by itself; ending what is left of it", file=sys.stderr)
        member.sweep()
    Cluster(directory, 0, PREFIX, NETWORK).switch.down()


if __name__ == "__main__":
    main()
