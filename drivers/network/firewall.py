"""The firewall of networks: one nftables table per network, replaced as a whole (spec/networks.md 5).

Owns the rules, equal in effect to LXD's; refuses to touch any other table. Rejected: LXD's iptables rules with a
comment each, which must be found and deleted one by one and are half there in between."""

import ipaddress
from collections.abc import Iterator, Mapping

from lxdnode.drivers.command import run
from lxdnode.drivers.config.kinds import is_false, is_true
from lxdnode.drivers.network.keys import is_set

_DHCP = {4: "67", 6: "547"}
_FAMILY = {4: "ip", 6: "ip6"}


def table(network: str) -> str:
    """The name of a network's table, in the family inet."""
    return f"lxd-node-{network}"


async def apply(network: str, config: Mapping[str, str]) -> None:
    """Puts the rules of a network in force in one step; a network without rules has no table."""
    await run("nft", "-f", "-", stdin=(_absent(network) + ruleset(network, config)).encode())


async def remove(network: str) -> None:
    """Removes the rules of a network; nothing when there are none."""
    await run("nft", "-f", "-", stdin=_absent(network).encode())


def _absent(network: str) -> str:
    # Deleting a table that does not exist is an error; declaring one that exists is none.
    return f"table inet {table(network)}\ndelete table inet {table(network)}\n"


def ruleset(network: str, config: Mapping[str, str]) -> str:
    """The table of a network as nft reads it; "" when its configuration asks for no rule."""
    chains = {
        "input hook input priority filter": list(_services(network, config, "iifname", "dport")),
        "output hook output priority filter": list(_services(network, config, "oifname", "sport")),
        "forward hook forward priority filter": list(_forwarding(network, config)),
        # Which rule of nat comes first decides: "before" and "after" are those of the host at priority srcnat.
        "before hook postrouting priority srcnat - 1": list(_masquerade(config, after=False)),
        "after hook postrouting priority srcnat + 1": list(_masquerade(config, after=True)),
    }
    lines = [line for head, rules in chains.items() if rules for line in _chain(head, rules)]
    return "\n".join([f"table inet {table(network)} {{", *lines, "}", ""]) if lines else ""


def _chain(head: str, rules: list[str]) -> Iterator[str]:
    name, hook = head.split(" ", 1)
    kind = "nat" if "postrouting" in hook else "filter"
    yield f"  chain {name} {{"
    yield f"    type {kind} {hook}; policy accept;"
    yield from (f"    {rule}" for rule in rules)
    yield "  }"


def _versions(config: Mapping[str, str]) -> Iterator[int]:
    """IP versions of which the network has an address."""
    return (version for version in (4, 6) if is_set(config, f"ipv{version}.address"))


def _services(network: str, config: Mapping[str, str], interface: str, port: str) -> Iterator[str]:
    """What the bridge's own DHCP and DNS need."""
    for version in _versions(config):
        if is_false(config.get(f"ipv{version}.dhcp")) or is_false(config.get(f"ipv{version}.firewall")):
            continue
        head = f'{interface} "{network}" meta nfproto ipv{version}'
        yield f"{head} udp {port} {{ {_DHCP[version]}, 53 }} accept"
        yield f"{head} tcp {port} 53 accept"


def _forwarding(network: str, config: Mapping[str, str]) -> Iterator[str]:
    for version in _versions(config):
        if is_false(config.get(f"ipv{version}.firewall")):
            continue
        verdict = "reject" if is_false(config.get(f"ipv{version}.routing")) else "accept"
        for direction in ("iifname", "oifname"):
            yield f'{direction} "{network}" meta nfproto ipv{version} {verdict}'


def _masquerade(config: Mapping[str, str], *, after: bool) -> Iterator[str]:
    for version in _versions(config):
        is_after = config.get(f"ipv{version}.nat.order") == "after"
        if is_true(config.get(f"ipv{version}.nat")) and is_after == after:
            subnet = ipaddress.ip_interface(config[f"ipv{version}.address"]).network
            yield f"{_FAMILY[version]} saddr {subnet} {_FAMILY[version]} daddr != {subnet} masquerade"
