"""`scripts/bench store`: commits at the log's interface beside etcd's, each with three members, TLS between them and
fsync, one after the other on this machine.

Owns our processes, the table and its bars; refuses to be etcd (`etcd.py`) or a member (`store_member.py`)."""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from lxdnode.node import keypair
from lxdnode.raft import driver as drivers
from lxdnode.raft.disk import Directory
from lxdnode.raft.entry import Members
from lxdnode.raft.journal import Identity
from lxdnode.raft.state import State
from lxdnode.raft.transaction import encode
from tests.bench.etcd import Etcd, measure_gateway, measure_grpc
from tests.harness.changes import member_put, transaction
from tests.harness.daemons import within

ROOT = Path(__file__).parents[2]
MEMBERS = (1, 2, 3)
CLIENTS = (1, 64)
SIZE = 300
THROUGHPUT, LATENCY = 2.5, 1.0  # through the leader, against the gateway: at least, at 64 clients; at most, at one
Results = dict[tuple[str, str, int], list[list[float]]]
"""By what was measured, through which member and with how many clients: for each round the seconds of each commit."""


class Store:
    """Three members of ours; each command is answered by one line."""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        keypair.save(folder, "server", keypair.make(["127.0.0.1"]))
        initial = encode(transaction(State(), 1, writes=tuple(member_put(n, voter=True) for n in MEMBERS)))
        for number in MEMBERS:
            disk = Directory(folder / f"member-{number}")
            drivers.create(disk, Identity("bench", 1, number), Members(MEMBERS), initial)
            disk.close()
        command = [sys.executable, "-m", "tests.bench.store_member"]
        arguments = [str(folder), *map(str, ports)]
        self._processes = [
            subprocess.Popen(
                [*command, str(number), *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            for number in MEMBERS
        ]

    def leader(self) -> int:
        """The place of the leader among the members, once there is one."""
        found = lambda: [place + 1 for place in range(len(MEMBERS)) if self._ask(place, "leads")]  # noqa: E731
        return int(within(30, "a member leads", found)[0]) - 1

    def measure(self, place: int, clients: int, seconds: float) -> list[float]:
        took: list[float] = self._ask(place, f"measure {clients} {seconds} {SIZE}")
        return took

    def _ask(self, place: int, line: str) -> Any:
        process = self._processes[place]
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


def main() -> int:
    """0 when the bars hold."""
    parser = argparse.ArgumentParser(prog="scripts/bench store", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="the median of them counts (default: 3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default: 4)")
    parser.add_argument("--scratch", default="/tmp", help="where the stores lie (default: /tmp)")
    options = parser.parse_args()
    results: Results = defaultdict(list)
    for _ in range(options.rounds):
        _in_folder(options.scratch, lambda folder: _measure_ours(folder, options.seconds, results))
        _in_folder(options.scratch, lambda folder: _measure_etcd(folder, options.seconds, results))
    return _print(results, options.seconds)


def _in_folder(scratch: str, measure: Callable[[Path], None]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="lxdn-store-", dir=scratch))
    try:
        measure(folder)
    finally:
        shutil.rmtree(folder)


def _measure_ours(folder: Path, seconds: float, results: Results) -> None:
    store = Store(folder, _free_ports(3))
    try:
        leader = store.leader()
        for through, place in (("leader", leader), ("follower", (leader + 1) % 3)):
            for clients in CLIENTS:
                results["lxd-node", through, clients].append(store.measure(place, clients, seconds))
    finally:
        store.stop()


def _measure_etcd(folder: Path, seconds: float, results: Results) -> None:
    etcd = Etcd(folder, _free_ports(3), _free_ports(3))
    try:
        leader = etcd.leader()
        for through, place in (("leader", leader), ("follower", (leader + 1) % 3)):
            for clients in CLIENTS:
                port = etcd.client_ports[place]
                results["etcd, JSON", through, clients].append(measure_gateway(port, clients, seconds, SIZE))
                results["etcd, gRPC", through, clients].append(measure_grpc(port, clients, seconds, SIZE))
    finally:
        etcd.stop()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _print(results: Results, seconds: float) -> int:
    """The table, and whether the bars hold."""
    rate = {key: median(len(took) / seconds for took in rounds) for key, rounds in results.items()}
    p50 = {key: median(median(took) for took in rounds) * 1000 for key, rounds in results.items()}
    p99 = {
        key: median(sorted(took)[len(took) * 99 // 100] for took in rounds) * 1000 for key, rounds in results.items()
    }
    print(
        f"three members on {os.cpu_count()} processors, values of {SIZE} bytes, load average {os.getloadavg()[0]:.1f}"
    )
    print("| through | clients | store | /s | p50, ms | p99, ms | ours : it, /s | ours : it, p50 |")
    print("|---|---|---|---|---|---|---|---|")
    for store, through, clients in sorted(results, key=lambda key: (key[1] != "leader", key[2], key[0] != "lxd-node")):
        key, ours = (store, through, clients), ("lxd-node", through, clients)
        ratios = f"{rate[ours] / rate[key]:.2f} | {p50[ours] / p50[key]:.2f}" if key != ours else " | "
        print(f"| {through} | {clients} | {store} | {rate[key]:,.0f} | {p50[key]:.2f} | {p99[key]:.1f} | {ratios} |")
    faster = rate["lxd-node", "leader", 64] / rate["etcd, JSON", "leader", 64]
    slower = p50["lxd-node", "leader", 1] / p50["etcd, JSON", "leader", 1]
    print(f"through the leader: {faster:.2f} times the gateway's throughput at 64 clients (at least {THROUGHPUT}),")
    print(f"{slower:.2f} of its latency at 1 client (at most {LATENCY})")
    return 0 if faster >= THROUGHPUT and slower <= LATENCY else 1


if __name__ == "__main__":
    raise SystemExit(main())
