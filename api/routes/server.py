"""/ and /1.0: what this server is, and its configuration (spec/rest.md 2)."""

from quart.wrappers import Response

from lxdnode.api.etag import etag_of
from lxdnode.api.extensions import ADVERTISED
from lxdnode.api.forward import forward
from lxdnode.api.responses import empty, sync
from lxdnode.api.route import Call, route
from lxdnode.api.targets import other_target
from lxdnode.api.types.server import Memory, Processors, ServerPut, ServerResources, Socket
from lxdnode.api.types.storage import Inodes, Resources, Space
from lxdnode.drivers.host import memory, processors
from lxdnode.node.server.keys import render


@route("ANY", "/", guest=True)
async def list_versions(call: Call) -> Response:
    """The versions of the API."""
    return sync(["/1.0"])


@route("GET", "/1.0", guest=True, hot=True, target=True)
def show_server(call: Call) -> Response:
    """What this server is and can do; its configuration and environment for trusted callers only."""
    methods = ["tls", "macaroons"] if call.node.settings.get("core.macaroon.endpoint") else ["tls"]
    shown = {
        "api_extensions": ADVERTISED,
        "api_status": "stable",
        "api_version": "1.0",
        "auth": "trusted" if call.caller.trusted else "untrusted",
        "public": False,
        "auth_methods": methods,
    }
    if not call.caller.trusted:
        return sync(shown)
    if (target := other_target(call, call.node.store.view())) is not None:
        return forward(call, target)
    config = render(call.node.settings.all())
    return sync(shown | {"config": config, "environment": call.node.environment()}, etag=etag_of(config))


@route("PUT", "/1.0", target=True, body=ServerPut)
async def replace_configuration(call: Call) -> Response:
    """Replaces the configuration; a key that is absent goes back to its default."""
    return await _change(call, replace=True)


@route("PATCH", "/1.0", extension="patch", target=True, body=ServerPut)
async def patch_configuration(call: Call) -> Response:
    """Changes the given keys."""
    return await _change(call, replace=False)


@route("GET", "/1.0/resources", extension="resources", target=True, answer=ServerResources)
async def show_resources(call: Call) -> Response:
    """The processors and the memory of a member."""
    if (target := other_target(call, await call.view())) is not None:
        return forward(call, target)
    chips = [
        Socket(one.cores, one.threads, one.frequency, one.turbo, name=one.vendor, vendor=one.model)
        for one in processors.sockets()
    ]
    cpu = Processors(chips, total=sum(chip.threads for chip in chips))
    return sync(ServerResources(cpu, Memory(*memory.usage()), Resources(Space(0), Inodes(0, 0))))


async def _change(call: Call, replace: bool) -> Response:
    body = await call.json(ServerPut)
    if body.config is None and not replace:
        return empty()
    if (target := other_target(call, await call.view())) is not None:
        return forward(call, target)
    call.match(etag_of(render(call.node.settings.all())))
    await call.node.configure(body.config or {}, replace, call.caller.author, call.request)
    return empty()
