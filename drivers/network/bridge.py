"""Managed bridges: made, brought into the shape of their configuration while they run, and removed.

Owns links, addresses, routes and sysctls of one bridge; refuses firewall and dnsmasq. Its functions block for some
milliseconds of netlink: `network.py` calls them in a thread."""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lxdnode.drivers.config.kinds import is_false, parse_integer
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.network.keys import NETWORK, is_set, tunnels

_FAMILIES = {4: 2, 6: 10}
_STATIC = 4
"""`proto static` of a route: the mark of those that we made."""
_GLOBAL = 0
_TUNNEL_MTU, _MTU = 1400, 1500
_FORWARDING = Path("/proc/sys/net")


def default_mtu(config: Mapping[str, str]) -> int:
    """The MTU of a bridge: as configured, else what fits through its tunnels."""
    return parse_integer(config.get("bridge.mtu", "")) or (_TUNNEL_MTU if tunnels(config) else _MTU)


def ensure(name: str, config: Mapping[str, str]) -> None:
    """Makes the bridge, or repairs the one that runs, in place: what is right is not touched.

    DriverError with the kernel's or LXD's words."""
    with IPRoute() as kernel, _named(name):
        index = _find(kernel, name) or _create(kernel, name)
        if is_set(config, "ipv6.address"):
            _prepare_ipv6(name)
        mtu = default_mtu(config)
        # The MAC is set even to the one that it has: a bridge whose MAC was never set takes that of its ports.
        hwaddr = config.get("bridge.hwaddr") or _link(kernel, index).get_attr("IFLA_ADDRESS")
        kernel.link("set", index=index, mtu=mtu, address=hwaddr, state="up")
        _ensure_tunnels(kernel, name, index, config, mtu)
        _ensure_ports(kernel, name, index, config)
        for version in _FAMILIES:
            _ensure_addresses(kernel, index, version, config)
            _ensure_routes(kernel, index, version, config)
            if is_set(config, f"ipv{version}.address") and not is_false(config.get(f"ipv{version}.routing")):
                _forward(version)


def remove(name: str) -> None:
    """Deletes the bridge and its tunnels; nothing when they are gone. Interfaces of the host only leave it."""
    with IPRoute() as kernel, _named(name):
        for link in list(kernel.get_links()):
            if _is_tunnel(link, name):
                kernel.link("del", index=link["index"])
        if index := _find(kernel, name):
            kernel.link("del", index=index)


def ensure_ports(name: str, config: Mapping[str, str]) -> None:
    """Puts those external interfaces into the bridge that are there by now."""
    with IPRoute() as kernel, _named(name):
        if index := _find(kernel, name):
            _ensure_ports(kernel, name, index, config)


def exists(name: str) -> bool:
    """Whether an interface of that name is on this host."""
    with IPRoute() as kernel:
        return _find(kernel, name) is not None


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turns netlink's and sysctl's errors into ours, with the network's name."""
    try:
        yield
    except NetlinkError as error:
        raise DriverError(f"Network '{name}': {error.args[1] if len(error.args) > 1 else error}") from None
    except OSError as error:
        raise DriverError(f"Network '{name}': {error}") from None


def _find(kernel: IPRoute, name: str) -> int | None:
    found = kernel.link_lookup(ifname=name)
    return found[0] if found else None


def _link(kernel: IPRoute, index: int) -> Any:
    (link,) = kernel.get_links(index)
    return link


def _create(kernel: IPRoute, name: str) -> int:
    kernel.link("add", ifname=name, kind="bridge")
    index = _find(kernel, name)
    assert index is not None
    return index


def _prepare_ipv6(name: str) -> None:
    """The bridge is the router: it takes no address of its own from others, and uses its own at once."""
    for key, value in (("autoconf", "0"), ("accept_dad", "0"), ("disable_ipv6", "0")):
        Path(f"/proc/sys/net/ipv6/conf/{name}/{key}").write_text(value)


def _ensure_addresses(kernel: IPRoute, index: int, version: int, config: Mapping[str, str]) -> None:
    key, family = f"ipv{version}.address", _FAMILIES[version]
    wanted = {str(ipaddress.ip_interface(config[key]))} if is_set(config, key) else set()
    present = {
        f"{entry.get_attr('IFA_ADDRESS')}/{entry['prefixlen']}"
        for entry in kernel.get_addr(index=index, family=family)
        if entry["scope"] == _GLOBAL
    }
    for address in present - wanted:
        kernel.addr("del", index=index, **_split(address))
    for address in wanted - present:
        broadcast = {"broadcast": str(ipaddress.ip_interface(address).network[-1])} if version == 4 else {}
        kernel.addr("add", index=index, **_split(address), **broadcast)


def _split(address: str) -> dict[str, str | int]:
    host, length = address.split("/")
    return {"address": host, "prefixlen": int(length)}


def _ensure_routes(kernel: IPRoute, index: int, version: int, config: Mapping[str, str]) -> None:
    wanted = set(_routes(config, version)) if is_set(config, f"ipv{version}.address") else set()
    present = {
        f"{route.get_attr('RTA_DST')}/{route['dst_len']}"
        for route in kernel.get_routes(family=_FAMILIES[version], oif=index, proto=_STATIC)
    }
    for route in present - wanted:
        kernel.route("del", dst=route, oif=index, proto=_STATIC, family=_FAMILIES[version])
    for route in wanted - present:
        kernel.route("add", dst=route, oif=index, proto=_STATIC, family=_FAMILIES[version])


def _routes(config: Mapping[str, str], version: int) -> Iterator[str]:
    for part in _parts(config.get(f"ipv{version}.routes", "")):
        try:
            yield str(ipaddress.ip_network(part, strict=False))
        except ValueError:
            raise DriverError(f"ipv{version}.routes: {part} is no subnet in CIDR form") from None


def _forward(version: int) -> None:
    """Lets this host route. A host with forwarding on ignores router advertisements, unless accept_ra is 2: an
    interface that got its own address by one must keep it."""
    if version == 4:
        (_FORWARDING / "ipv4/ip_forward").write_text("1")
        return
    for interface in (_FORWARDING / "ipv6/conf").iterdir():
        if (interface / "accept_ra").read_text().strip() == "1":
            (interface / "accept_ra").write_text("2")
    (_FORWARDING / "ipv6/conf/all/forwarding").write_text("1")


def _ensure_tunnels(kernel: IPRoute, name: str, index: int, config: Mapping[str, str], mtu: int) -> None:
    """Makes the tunnels anew: a link cannot change where it leads to."""
    for link in list(kernel.get_links()):
        if _is_tunnel(link, name):
            kernel.link("del", index=link["index"])
    for tunnel in tunnels(config):
        options = _tunnel(kernel, config, tunnel)
        if options is None:
            continue
        link_name = f"{name}-{tunnel}"
        kernel.link("add", ifname=link_name, **options)
        kernel.link("set", index=_find(kernel, link_name), master=index, mtu=mtu, state="up")


def _is_tunnel(link: Any, name: str) -> bool:
    info = link.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
    return link.get_attr("IFLA_IFNAME").startswith(f"{name}-") and kind in ("vxlan", "gretap")


def _tunnel(kernel: IPRoute, config: Mapping[str, str], tunnel: str) -> dict[str, Any] | None:
    """The link of a tunnel as netlink wants it, or None for a gre tunnel whose ends are not both known."""

    def value(key: str) -> str:
        return NETWORK.value(config, f"tunnel.{tunnel}.{key}")

    local, remote = value("local"), value("remote")
    if value("protocol") == "gre":
        ends = {"gre_local": local, "gre_remote": remote}
        return {"kind": "gretap", **ends} if local and remote else None
    if value("protocol") != "vxlan":
        raise DriverError(f"tunnel.{tunnel}.protocol is not set: set it to vxlan or gre")
    link: dict[str, Any] = {
        "kind": "vxlan",
        "vxlan_id": parse_integer(value("id")),
        "vxlan_port": int(value("port")),
    }
    if local and remote:
        return {**link, "vxlan_local": local, "vxlan_group": remote}
    via = value("interface") or _default_interface(kernel)
    return {**link, "vxlan_group": value("group"), "vxlan_link": _find_or_fail(kernel, via)}


def _default_interface(kernel: IPRoute) -> str:
    for route in kernel.get_default_routes(family=_FAMILIES[4]):
        if index := route.get_attr("RTA_OIF"):
            return str(_link(kernel, index).get_attr("IFLA_IFNAME"))
    raise DriverError("No default gateway for IPv4")


def _find_or_fail(kernel: IPRoute, name: str) -> int:
    index = _find(kernel, name)
    if index is None:
        raise DriverError(f"interface {name} does not exist on this host")
    return index


def _ensure_ports(kernel: IPRoute, name: str, index: int, config: Mapping[str, str]) -> None:
    """Puts the external interfaces into the bridge. One that is not there is left for when it appears."""
    for port in _parts(config.get("bridge.external_interfaces", "")):
        found = _find(kernel, port)
        if found is None or _link(kernel, found).get_attr("IFLA_MASTER") == index:
            continue
        if any(_is_configured(entry) for entry in kernel.get_addr(index=found)):
            raise DriverError("Only unconfigured network interfaces can be bridged")
        kernel.link("set", index=found, master=index, state="up")


def release_ports(name: str, ports: Iterable[str]) -> None:
    """Takes interfaces of the host out of the bridge; nothing for those that are not in it."""
    with IPRoute() as kernel, _named(name):
        index = _find(kernel, name)
        for port in ports:
            found = _find(kernel, port)
            if found is not None and index and _link(kernel, found).get_attr("IFLA_MASTER") == index:
                kernel.link("set", index=found, master=0)


def external_interfaces(config: Mapping[str, str]) -> list[str]:
    """The names in `bridge.external_interfaces`."""
    return _parts(config.get("bridge.external_interfaces", ""))


def _is_configured(entry: Any) -> bool:
    address = ipaddress.ip_address(entry.get_attr("IFA_ADDRESS"))
    return not (address.is_link_local or address.is_loopback or address.is_multicast)


def _parts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]
