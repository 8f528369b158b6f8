"""Network interfaces of running containers: put in, taken out, and limited.

Owns what LXC does by itself at a start, for a container that runs already; refuses to know nic types (`nic.py` does).
Functions block for some milliseconds, those of `limit` apart: call them from a worker thread."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from lxdnode.drivers.command import run
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.runtime.configure import Nic
from lxdnode.drivers.runtime.netlink import network_namespace


def exists(interface: str) -> bool:
    """Whether this host has an interface. Not by /sys: what is mounted there may show another network namespace."""
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True


def attach(nic: Nic, pid: int) -> None:
    """Puts an interface into the container of init `pid` and brings it up. DriverError; nothing is left then."""
    try:
        with _kernel() as kernel:
            _MAKERS[nic.type](kernel, nic, pid)
    except NetlinkError as error:  # Nothing was made: what bears one of its names is another's.
        raise DriverError(f"Interface {nic.name} cannot be added: {error.args[-1]}") from None
    try:
        _bring_up(nic, pid)
    except NetlinkError as error:
        with suppress(DriverError):
            detach(nic, f"/proc/{pid}/ns/net")
        raise DriverError(f"Interface {nic.name} cannot be added: {error.args[-1]}") from None


def _bring_up(nic: Nic, pid: int) -> None:
    if nic.type == "veth":
        with _kernel() as kernel:
            _connect(kernel, nic)
    with network_namespace(f"/proc/{pid}/ns/net"), _kernel() as inside:
        (index,) = inside.link_lookup(ifname=nic.name)
        inside.link("set", index=index, state="up")


def _make_pair(kernel: Any, nic: Nic, pid: int) -> None:
    extra = {"mtu": int(nic.mtu)} if nic.mtu else {}
    peer = {"ifname": nic.name, "net_ns_pid": pid, "address": nic.hwaddr, **extra}
    kernel.link("add", ifname=nic.host_name, kind="veth", peer=peer, **extra)


def _connect(kernel: Any, nic: Nic) -> None:
    index = socket.if_nametoindex(nic.host_name)
    if nic.link:
        Path(f"/proc/sys/net/ipv6/conf/{nic.host_name}/disable_ipv6").write_text("1")
        kernel.link("set", index=index, master=socket.if_nametoindex(nic.link))
    kernel.link("set", index=index, state="up")


def _make_macvlan(kernel: Any, nic: Nic, pid: int) -> None:
    link = socket.if_nametoindex(nic.link)
    extra = {"mtu": int(nic.mtu)} if nic.mtu else {}
    kernel.link(
        "add",
        ifname=nic.name,
        kind="macvlan",
        macvlan_mode="bridge",
        link=link,
        address=nic.hwaddr,
        net_ns_pid=pid,
        **extra,
    )


def _move_in(kernel: Any, nic: Nic, pid: int) -> None:
    index = socket.if_nametoindex(nic.link)
    (before,) = kernel.get_links(index)
    was = {"address": before.get_attr("IFLA_ADDRESS"), "mtu": before.get_attr("IFLA_MTU"), "ifname": nic.link}
    try:
        kernel.link("set", index=index, state="down")
        for key, value in (("address", nic.hwaddr), ("mtu", int(nic.mtu or 0)), ("ifname", nic.name)):
            if value:
                kernel.link("set", index=index, **{key: value})
        kernel.link("set", index=index, net_ns_pid=pid)
    except NetlinkError:
        for key, value in was.items():
            kernel.link("set", index=index, **{key: value})
        kernel.link("set", index=index, state=before["state"])
        raise


_MAKERS = {"veth": _make_pair, "macvlan": _make_macvlan, "phys": _move_in}


def detach(nic: Nic, namespace: str) -> None:
    """Takes an interface out of a network namespace (`/proc/4711/ns/net`); one of the host's own comes back under its
    name. Nothing when it has gone already. DriverError."""
    try:
        if nic.type == "veth":
            if exists(nic.host_name):
                with _kernel() as kernel:
                    kernel.link("del", index=socket.if_nametoindex(nic.host_name))
            return
        with open("/proc/thread-self/ns/net") as home, network_namespace(namespace), _kernel() as inside:
            for index in inside.link_lookup(ifname=nic.name):
                if nic.type == "macvlan":
                    inside.link("del", index=index)
                else:
                    inside.link("set", index=index, state="down")
                    inside.link("set", index=index, ifname=nic.link, net_ns_fd=home.fileno())
    except (NetlinkError, FileNotFoundError) as error:
        raise DriverError(f"Interface {nic.name} cannot be removed: {error.args[-1]}") from None


def make_vlan(parent: str, number: int) -> str:
    """The host's interface for a VLAN of `parent`: the one that there is, or a new `PARENT.NUMBER`, which stays."""
    name = f"{parent}.{number}"
    try:
        with _kernel() as kernel:
            above = socket.if_nametoindex(parent)
            for link in kernel.get_links(kind="vlan"):
                info = link.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
                if link.get_attr("IFLA_LINK") == above and info.get_attr("IFLA_VLAN_ID") == number:
                    return str(link.get_attr("IFLA_IFNAME"))
            kernel.link("add", ifname=name, kind="vlan", link=above, vlan_id=number)
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
            kernel.link("set", index=socket.if_nametoindex(name), state="up")
    except NetlinkError as error:
        raise DriverError(f"VLAN {number} of {parent} cannot be made: {error.args[-1]}") from None
    return name


async def limit(interface: str, ingress: int, egress: int) -> None:
    """Limits what goes through the host's end of a veth pair, in bits per second of the container's view; 0 is no
    limit. DriverError.

    By `tc`, whose words are those of the rule (spec/config-keys.md 6): a class of htb towards the container, a policer
    for what comes from it."""
    for kind in ("root", "ingress"):
        with suppress(DriverError):  # There is none as a rule.
            await run("tc", "qdisc", "del", "dev", interface, kind)
    try:
        if ingress:
            await _tc("qdisc", "add", "dev", interface, "root", "handle", "1:0", "htb", "default", "10")
            rate = ("htb", "rate", f"{ingress}bit")
            await _tc("class", "add", "dev", interface, "parent", "1:0", "classid", "1:10", *rate)
        if egress:
            await _tc("qdisc", "add", "dev", interface, "handle", "ffff:0", "ingress")
            match = ("u32", "match", "u32", "0", "0")
            police = ("police", "rate", f"{egress}bit", "burst", "1024k", "mtu", "64kb", "drop")
            await _tc("filter", "add", "dev", interface, "parent", "ffff:0", "protocol", "all", *match, *police)
    except DriverError as error:
        raise DriverError(f"Limits of {interface} cannot be set: {error}") from None


async def _tc(*words: str) -> None:
    await run("tc", *words)


@contextmanager
def _kernel() -> Iterator[Any]:
    with IPRoute() as kernel:
        yield kernel
