"""`scripts/load`: three real members under creators, new connections, lists and an upload, all at once (issue: a
cluster must keep its leader, and lose nothing, however busy it is).

Owns the cluster and the verdict; refuses to be a client (`clients.py`)."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from lxdnode.drivers.images.busybox import assemble, find_busybox, unified
from lxdnode.node import keypair
from tests.bench.footprint import Footprint
from tests.harness.daemons import Cluster, within

ROOT = Path(__file__).parents[2]
LIMIT_MS = 100.0


class Noise:
    """A file of bytes that do not compress."""

    def read(self, size: int) -> bytes:
        return os.urandom(size)


def main() -> int:
    options = _parse()
    directory = Path(tempfile.mkdtemp(prefix="lxdn-load-", dir=options.scratch))
    directory.chmod(0o711)
    cluster = Cluster(directory, 3, f"ll{os.getpid():x}", "10.93.0")
    try:
        return _run(cluster, directory, options)
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/load", description=__doc__.split(":")[1].split("(")[0].strip())
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--creators", type=int, default=64)
    parser.add_argument("--connections", type=float, default=50, help="new TLS connections a second")
    parser.add_argument("--containers", type=int, default=200, help="in the lists")
    parser.add_argument("--image", type=int, default=2048, metavar="MIB", help="size of the upload; 0: none")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp"), help="where state directories are made")
    return parser.parse_args()


def _run(cluster: Cluster, directory: Path, options: argparse.Namespace) -> int:
    cluster.start().form(storage_pools=[{"name": "default", "driver": "dir"}])
    _furnish(cluster, directory, options)
    before, lateness = [member.get("/internal/cluster/status") for member in cluster.members], _lateness(cluster)
    footprints = [Footprint(member.process.pid) for member in cluster.members if member.process]
    began = time.time()
    processes = [_start(cluster, kind, wanted) for kind, wanted in _clients(cluster, directory, options, began)]
    seen = [json.loads(process.communicate()[0] or "{}") for process in processes]
    print(f"{time.time() - began:.0f} s, load average {os.getloadavg()[0]:.1f}")
    _show(seen)
    for member, old, footprint in zip(cluster.members, before, footprints, strict=True):
        term = member.get("/internal/cluster/status")["store"]["term"]
        print(f"{member.name}: term {old['store']['term']} before, {term} after; {footprint}")
    late = _show_lateness(cluster, lateness)
    lost = _lost(cluster, seen)
    print(f"acknowledged {sum(len(one.get('alive', [])) + len(one.get('gone', [])) for one in seen)}, lost {len(lost)}")
    terms = {member.get("/internal/cluster/status")["store"]["term"] for member in cluster.members}
    return 0 if not lost and not late and terms == {before[0]["store"]["term"]} else 1


def _furnish(cluster: Cluster, directory: Path, options: argparse.Namespace) -> None:
    """Containers for the lists, an image for the upload, a client certificate."""
    pair = keypair.make()
    keypair.save(directory, "client", pair)
    body = "".join(line for line in pair.certificate.splitlines() if not line.startswith("-----"))
    cluster[1].post("/1.0/certificates", {"type": "client", "name": "load", "certificate": body})
    cluster[1].patch("/1.0/profiles/default", {"devices": {"root": {"type": "disk", "path": "/", "pool": "default"}}})
    for number in range(options.containers):
        cluster[number % 3 + 1].post("/1.0/containers", {"name": f"c{number}", "source": {"type": "none"}})
    if options.image:
        path = directory / "image.tar"
        path.write_bytes(unified(assemble(find_busybox()), compress=False))
        with tarfile.open(path, "a") as tar:
            padding = tarfile.TarInfo("rootfs/var/padding")
            padding.size = options.image << 20
            tar.addfile(padding, Noise())  # type: ignore[arg-type]


def _clients(
    cluster: Cluster, directory: Path, options: argparse.Namespace, began: float
) -> list[tuple[str, dict[str, Any]]]:
    sockets, end = [str(member.socket) for member in cluster.members], began + options.seconds
    addresses, pair = [member.address for member in cluster.members], str(directory / "client")
    wanted: list[tuple[str, dict[str, Any]]] = [
        ("create", {"end": end, "sockets": sockets, "count": options.creators}),
        ("connect", {"end": end, "addresses": addresses, "pair": pair, "rate": options.connections}),
        ("look", {"end": end, "sockets": sockets}),
    ]
    if options.image:
        wanted.append(("upload", {"address": addresses[1], "pair": pair, "image": str(directory / "image.tar")}))
    return wanted


def _start(cluster: Cluster, kind: str, wanted: dict[str, Any]) -> subprocess.Popen[bytes]:
    """A client beside the first member: every other one is as far away as it would be in a network."""
    host = cluster[1].host
    assert host is not None
    command = [*host.enter, sys.executable, "-m", "tests.bench.clients", kind, json.dumps(wanted)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def _show(seen: list[dict[str, Any]]) -> None:
    for one in seen:
        for kind, row in one.get("rows", {}).items():
            print(f"{kind:16} {row['count']:8} p50 {row['p50']:8.1f} p99 {row['p99']:8.1f} max {row['max']:8.1f} ms")
        for words, count in one.get("errors", {}).items():
            print(f"  error {count} times: {words}")


def _lateness(cluster: Cluster) -> list[list[int]]:
    return [member.get("/internal/cluster/status")["lateness"]["counts"] for member in cluster.members]


def _show_lateness(cluster: Cluster, before: list[list[int]]) -> bool:
    """Prints how late Raft's steps began; whether p99.9 is above the limit anywhere."""
    late = False
    for member, old in zip(cluster.members, before, strict=True):
        shown = member.get("/internal/cluster/status")["lateness"]
        counts = [new - was for new, was in zip(shown["counts"], old, strict=True)]
        bounds = [1000 * bound for bound in shown["bounds"]] + [float("inf")]
        found = {quantile: _quantile(counts, bounds, quantile) for quantile in (0.5, 0.99, 0.999, 1.0)}
        words = ", ".join(f"{'max' if q == 1 else f'p{100 * q:g}'} {value:.1f}" for q, value in found.items())
        print(f"{member.name}: lateness of {sum(counts)} steps in ms: {words}")
        late = late or found[0.999] > LIMIT_MS
    return late


def _quantile(counts: list[int], bounds: list[float], quantile: float) -> float:
    """The upper bound of the bucket in which a quantile lies."""
    wanted, total = quantile * sum(counts), 0
    for count, bound in zip(counts, bounds, strict=True):
        total += count
        if total >= wanted and count:
            return bound
    return 0.0


def _lost(cluster: Cluster, seen: list[dict[str, Any]]) -> set[str]:
    """Profiles that were acknowledged and are not there on some member, and those that are there although deleted."""
    alive = {name for one in seen for name in one.get("alive", [])}
    gone = {name for one in seen for name in one.get("gone", [])}
    lost = set()
    for member in cluster.members:
        listed = within(10, "profiles are listed", partial(member.get, "/1.0/profiles"))
        found = {url.rsplit("/", 1)[1] for url in listed}
        lost |= (alive - found) | (gone & found)
    return lost


if __name__ == "__main__":
    sys.exit(main())
