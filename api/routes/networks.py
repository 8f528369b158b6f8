"""/1.0/networks (spec/rest.md 7, spec/networks.md)."""

from urllib.parse import quote

import msgspec
import trio
from quart.wrappers import Response

from lxdnode.api.etag import etag_of
from lxdnode.api.responses import created, empty, sync
from lxdnode.api.route import Call, route
from lxdnode.api.targets import target_of
from lxdnode.api.types.networks import (
    Address,
    Counters,
    Lease,
    Network,
    NetworkPost,
    NetworkPut,
    NetworksPost,
    NetworkState,
)
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.network import interfaces
from lxdnode.node.definitions import rules as definitions
from lxdnode.node.documents import View
from lxdnode.node.errors import NodeError, NotFound
from lxdnode.node.networks import rules, users
from lxdnode.node.networks.records import NETWORKS
from lxdnode.node.networks.records import Network as Record


@route("GET", "/1.0/networks", extension="network", answer=list[Network])
async def list_networks(call: Call) -> Response:
    """The managed ones by name, then every other interface of the answering host; URLs, or objects with recursion."""
    view = await call.view()
    managed = {record.name: record for _id, record in view.all(NETWORKS) if record.phase != "deleting"}
    found = await call.node.networks.interfaces.read()
    others = {one.name: one for one in found if one.name not in managed}
    if not call.recursion:
        return sync([_url(name) for name in [*sorted(managed), *others]])
    used = await users.by_network(view)
    return sync(
        [_managed(call, view, managed[name], None, used.get(name, [])) for name in sorted(managed)]
        + [_unmanaged(one, used.get(one.name, [])) for one in others.values()]
    )


@route("POST", "/1.0/networks", extension="network", target=True, body=NetworksPost)
async def create_network(call: Call) -> Response:
    """Makes a network on every member, or with `target` names a member for one that is made later."""
    body = await call.json(NetworksPost)
    rules.check_new(body.name, body.type, body.config)
    node, view = call.node, call.node.store.view()
    record = Record(name=body.name, description=body.description)
    if (member := _defined_on(call, view)) is not None:
        await call.transact(lambda draft: rules.define(draft, record, member, body.config))
        return created(_url(body.name))
    if rules.find_id(view, body.name) is None:
        await node.networks.check_free(body.name)
    record = msgspec.structs.replace(record, config=await node.networks.complete(body.config, is_new=True))
    id = await call.transact(lambda draft: rules.begin(draft, record, node.member))
    await node.networks.await_created(id)
    return created(_url(body.name))


@route("GET", "/1.0/networks/<name>", extension="network", target=True, answer=Network)
async def show_network(call: Call) -> Response:
    """One network, with its ETag, or an interface of the answering host."""
    view, name = await call.view(), call.arguments["name"]
    used = users.containers(view, name)
    if rules.find_id(view, name) is not None:
        target = target_of(call, view)
        record = rules.find(view, name)[1]
        return sync(_managed(call, view, record, target, used), etag=_etag(call, view, record, target))
    found = _unmanaged(await _interface(name, "not found"), used)
    return sync(found, etag=etag_of([found.name, False, found.type, "", {}]))


@route("PUT", "/1.0/networks/<name>", extension="network", body=NetworkPut)
async def replace_network(call: Call) -> Response:
    """Replaces description and config; an absent one becomes empty."""
    return await _change(call, merges=False)


@route("PATCH", "/1.0/networks/<name>", extension="network", body=NetworkPut)
async def patch_network(call: Call) -> Response:
    """Lays config over by key; what is absent stays."""
    return await _change(call, merges=True)


@route("POST", "/1.0/networks/<name>", extension="network", body=NetworkPost)
async def rename_network(call: Call) -> Response:
    """Gives a network another name, where there is one member."""
    body = await call.json(NetworkPost)
    await call.node.networks.rename(call.arguments["name"], body.name, call.caller.author)
    return created(_url(body.name))


@route("DELETE", "/1.0/networks/<name>", extension="network")
async def delete_network(call: Call) -> Response:
    """Deletes a network that no container uses, on every member."""
    id = await call.transact(lambda draft: rules.remove(draft, call.arguments["name"]))
    await call.node.networks.await_removed(id)
    return empty()


@route("GET", "/1.0/networks/<name>/leases", extension="network_leases", answer=list[Lease])
async def list_leases(call: Call) -> Response:
    """The static leases of all members, and the dynamic ones of the answering one."""
    await call.view()
    return sync(call.node.networks.leases(call.arguments["name"]))


@route("GET", "/1.0/networks/<name>/state", extension="network_state", answer=NetworkState)
async def show_state(call: Call) -> Response:
    """Addresses and counters of an interface of the answering host, managed or not."""
    name = call.arguments["name"]
    found = await _interface(name, f"Interface '{name}' not found")
    addresses = [Address(one.family, one.address, one.netmask, one.scope) for one in found.addresses]
    counters = Counters(found.bytes_received, found.bytes_sent, found.packets_received, found.packets_sent)
    state = "up" if found.is_up else "down"
    return sync(NetworkState(addresses, counters, found.hwaddr, found.mtu, state, found.kind))


def _defined_on(call: Call, view: View) -> int | None:
    """The member that a definition names; an unknown one is LXD's 404 here, not its 500."""
    try:
        return target_of(call, view)
    except NodeError:
        raise NotFound from None


async def _change(call: Call, *, merges: bool) -> Response:
    view = await call.view()
    id, record = rules.find(view, call.arguments["name"])
    call.match(_etag(call, view, record, None))
    body = await call.json(NetworkPut)
    description, config = body.description, body.config or {}
    if merges:
        description = record.description if description is None else description
        config = rules.shown_config(view, record, call.node.member, None) | config
    config = await call.node.networks.complete(config, is_new=False)
    await call.node.networks.change(id, description or "", config, record, call.caller.author)
    return empty()


async def _interface(name: str, missing: str) -> interfaces.Interface:
    try:
        return await trio.to_thread.run_sync(interfaces.show, name)
    except DriverError:
        raise NotFound(missing) from None


def _etag(call: Call, view: View, record: Record, target: int | None) -> str:
    config = rules.shown_config(view, record, call.node.member, target)
    return etag_of([record.name, True, "bridge", record.description, config])


def _url(name: str) -> str:
    return f"/1.0/networks/{quote(name, safe='')}"


def _used_by(containers: list[str]) -> list[str]:
    return [f"/1.0/containers/{name}" for name in containers]


def _managed(call: Call, view: View, record: Record, target: int | None, used: list[str]) -> Network:
    return Network(
        config=rules.shown_config(view, record, call.node.member, target),
        description=record.description,
        name=record.name,
        type="bridge",
        used_by=_used_by(used),
        managed=True,
        status=definitions.status(record),
        locations=definitions.locations(record, view),
    )


def _unmanaged(found: interfaces.Interface, used: list[str]) -> Network:
    return Network({}, "", found.name, found.type, _used_by(used), False, "", None)
