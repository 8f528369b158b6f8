"""The leases that a network's dnsmasq gave, from its lease file (spec/networks.md 4).

Owns the file's format; refuses to know which container has which MAC."""

from dataclasses import dataclass
from pathlib import Path

from lxdnode.drivers.errors import DriverError

_MAC_LENGTH = 17


@dataclass(frozen=True)
class Lease:
    """One lease; `type` is static or dynamic."""

    hostname: str
    hwaddr: str
    address: str
    type: str


def read(directory: Path) -> list[Lease]:
    """The dynamic leases in `directory`/dnsmasq.leases. DriverError with LXD's words when there is no file."""
    try:
        text = (directory / "dnsmasq.leases").read_text(errors="replace")
    except FileNotFoundError:
        raise DriverError("No lease file for network") from None
    return [lease for line in text.splitlines() if (lease := _parse(line)) is not None]


def holds(directory: Path, hwaddrs: set[str]) -> bool:
    """Whether there is a lease of any of these MACs."""
    path = directory / "dnsmasq.leases"
    return path.exists() and any(lease.hwaddr in hwaddrs for lease in read(directory))


def drop(directory: Path, hwaddrs: set[str]) -> None:
    """Removes the leases of some MACs; dnsmasq must not run, it would write its own list over it."""
    path = directory / "dnsmasq.leases"
    if not path.exists():
        return
    kept = []
    for line in path.read_text(errors="surrogateescape").splitlines(keepends=True):
        lease = _parse(line)
        if lease is None or lease.hwaddr not in hwaddrs:
            kept.append(line)
    path.write_text("".join(kept), errors="surrogateescape")


def _parse(line: str) -> Lease | None:
    """EXPIRY MAC ADDRESS NAME CLIENT; of DHCPv6 the MAC is the end of the client's DUID."""
    fields = line.split()
    if len(fields) < 5:
        return None
    hwaddr = fields[1] if fields[1].count(":") == 5 else fields[4][-_MAC_LENGTH:]
    return Lease(hostname=fields[3], hwaddr=hwaddr, address=fields[2], type="dynamic")
