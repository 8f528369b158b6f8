"""How a container is now, as GET state shows it (spec/containers.md 4).

Owns the shape; refuses to measure (`drivers/runtime/state.py` does)."""

from typing import TYPE_CHECKING, Any

import trio

from lxdnode.drivers.devices.registry import root_disk
from lxdnode.drivers.runtime import state as usage
from lxdnode.drivers.runtime.netlink import Interface, interface_names
from lxdnode.drivers.storage.volume import Kind, Volume
from lxdnode.node.containers.expansion import Expanded
from lxdnode.node.containers.records import STATUS_CODES, STOPPED

if TYPE_CHECKING:
    from lxdnode.node.node import Node

_NO_MEMORY = {"usage": 0, "usage_peak": 0, "swap_usage": 0, "swap_usage_peak": 0}


async def read(node: "Node", found: Expanded) -> dict[str, Any]:
    """The state object of a container of this member."""
    live = node.containers.host.live(found.id)
    status = node.containers.host.state(found.id)
    shown: dict[str, Any] = {"status": status, "status_code": STATUS_CODES[status]}
    if live is None or status == STOPPED:
        empty = {"disk": None, "network": None, "memory": _NO_MEMORY, "pid": 0, "processes": 0, "cpu": {"usage": 0}}
        return shown | empty
    used = await trio.to_thread.run_sync(usage.read, live.running, node.containers.host.layout)
    outside = interface_names()
    return shown | {
        "cpu": {"usage": used.cpu},
        "disk": await _disk(node, found),
        "memory": {
            "usage": used.memory,
            "usage_peak": used.memory_peak,
            "swap_usage": used.swap,
            "swap_usage_peak": used.swap_peak,
        },
        "network": {one.name: _interface(one, outside) for one in used.interfaces},
        "pid": live.running.init.pid,
        "processes": used.processes,
    }


async def _disk(node: "Node", found: Expanded) -> dict[str, Any]:
    """The root disk only, and only where the driver can tell."""
    driver = node.storage.driver(found.container.pool)
    used = await driver.usage(Volume(Kind.CONTAINER, found.name))
    return {} if used is None else {root_disk(found.devices)[0]: {"usage": used}}


def _interface(one: Interface, outside: dict[int, str]) -> dict[str, Any]:
    return {
        "addresses": [
            {"family": a.family, "address": a.address, "netmask": a.netmask, "scope": a.scope} for a in one.addresses
        ],
        "counters": {
            "bytes_received": one.bytes_received,
            "bytes_sent": one.bytes_sent,
            "packets_received": one.packets_received,
            "packets_sent": one.packets_sent,
        },
        "hwaddr": one.hwaddr,
        "host_name": outside.get(one.peer, "") if one.peer else "",
        "mtu": one.mtu,
        "state": one.state,
        "type": one.type,
    }
