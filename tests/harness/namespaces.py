"""Network namespaces on one switch: a host of its own for each member, without a route to anywhere else.

Owns making and removing them; refuses to run anything inside (`daemons.py` does)."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


class HostError(Exception):
    """A host tool failed; the text has the command and its own words."""


def run(*argv: str, check: bool = True) -> str:
    """Runs a host tool and returns its output. HostError with its words when it fails and `check` is set."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    if check and done.returncode:
        raise HostError(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


@dataclass(frozen=True)
class Host:
    """A namespace with one interface `eth0` on the switch."""

    namespace: str
    address: str

    @property
    def enter(self) -> list[str]:
        """What to put before a command so that it runs in the namespace.

        nsenter and not `ip netns exec`, which mounts a fresh /sys and so hides the cgroups."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--"]

    @property
    def inhabit(self) -> list[str]:
        """What to put before a daemon: like `enter`, with a /sys that shows the namespace's interfaces (liblxc looks
        for bridges there), and the host's cgroups and AppArmor. The mounts are the daemon's own, and go with it."""
        return [*self.enter, "unshare", "--mount", "--propagation", "slave", "sh", "-c", _SYS, "sh"]


_SYS = """
set -e
keep=$(mktemp -d)
mount --rbind /sys "$keep"
mount -t sysfs sysfs /sys
for tree in fs/cgroup kernel/security; do mount --rbind "$keep/$tree" "/sys/$tree"; done
umount -l "$keep"
rmdir "$keep"
exec "$@"
"""


class Switch:
    """A bridge in a namespace of its own, and the hosts that hang on it. `prefix` (up to 8 letters) names them all."""

    def __init__(self, prefix: str, network: str = "10.94.0") -> None:
        self._prefix = prefix
        self._network = network
        self._name = f"{prefix}sw"

    def host(self, number: int) -> Host:
        """The host with a number; made by `up`."""
        return Host(f"{self._prefix}{number}", f"{self._network}.{number}")

    def up(self, count: int) -> list[Host]:
        """Makes the switch and `count` hosts; what exists already is kept."""
        if not _exists(self._name):
            run("ip", "netns", "add", self._name)
            run("ip", "-n", self._name, "link", "add", "switch", "type", "bridge")
            run("ip", "-n", self._name, "link", "set", "switch", "up")
            run("ip", "-n", self._name, "link", "set", "lo", "up")
        hosts = [self.host(number) for number in range(1, count + 1)]
        for number, host in enumerate(hosts, 1):
            if not _exists(host.namespace):
                self._attach(host, f"port{number}")
        return hosts

    def _attach(self, host: Host, port: str) -> None:
        name = host.namespace
        run("ip", "netns", "add", name)
        run("ip", "-n", self._name, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "-n", self._name, "link", "set", port, "master", "switch", "up")
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "addr", "add", f"{host.address}/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")

    def plug(self, pid: int, number: int) -> str:
        """Hangs the network namespace of a process on the switch as well; returns its address there."""
        address, inside = f"{self._network}.{number}", ["nsenter", "-t", str(pid), "--net", "ip"]
        port = f"port{number}"
        run("ip", "-n", self._name, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        run("ip", "-n", self._name, "link", "set", port, "master", "switch", "up")
        run(*inside, "addr", "add", f"{address}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        return address

    def cut(self, number: int) -> None:
        """Takes the link of a host down."""
        run("ip", "-n", self._name, "link", "set", f"port{number}", "down")

    def heal(self, number: int) -> None:
        """Brings the link of a host up again."""
        run("ip", "-n", self._name, "link", "set", f"port{number}", "up")

    def narrow(self, number: int, rate: int) -> None:
        """Lets the link of a host carry `rate` kbit/s each way; what does not fit waits for half a second at most."""
        for end in self._ends(number):
            run(*end, "root", "tbf", "rate", f"{rate}kbit", "burst", "4k", "latency", "500ms")

    def widen(self, number: int) -> None:
        """Lets the link of a host carry anything again."""
        for end in self._ends(number):
            run(*end, "root", "pfifo")

    def _ends(self, number: int) -> list[list[str]]:
        ends = (self.host(number).namespace, "eth0"), (self._name, f"port{number}")
        return [["tc", "-n", namespace, "qdisc", "replace", "dev", device] for namespace, device in ends]

    def down(self) -> None:
        """Removes the switch and every host of this prefix."""
        for path in sorted(Path("/run/netns").glob(f"{self._prefix}*")):
            if path.name == self._name or path.name.removeprefix(self._prefix).isdigit():
                run("ip", "netns", "del", path.name, check=False)


def _exists(namespace: str) -> bool:
    return Path("/run/netns", namespace).exists()
