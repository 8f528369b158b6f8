"""/internal: what members ask of each other, and the lxd-node command of its daemon. Not part of the public API."""

import msgspec
import trio
from quart.wrappers import Response

from lxdnode.api.forward import forward
from lxdnode.api.responses import empty, sync
from lxdnode.api.route import Call, route
from lxdnode.api.targets import other_target
from lxdnode.node.cluster.accept import Joiner
from lxdnode.node.errors import Forbidden, Unavailable
from lxdnode.node.keypair import check


class Drop(msgspec.Struct):
    """The number of a member whose join has failed."""

    number: int


class Certificate(msgspec.Struct):
    """A certificate, which may be a chain, and its key, both PEM."""

    certificate: str = ""
    key: str = ""


@route("GET", "/internal/ready")
async def show_ready(call: Call) -> Response:
    """200 once containers may start."""
    if not call.node.ready.is_set():
        raise Unavailable("LXD daemon setup in progress")
    return empty()


@route("PUT", "/internal/certificate", target=True, body=Certificate)
async def replace_certificate(call: Call) -> Response:
    """Gives this member, or the one that `target` names, another certificate and key of its own."""
    body = await call.json(Certificate)
    if (target := other_target(call, await call.view())) is not None:
        return forward(call, target)
    await call.node.endpoints.replace_own(check(body.certificate, body.key), call.caller.author, call.request)
    return empty()


@route("PUT", "/internal/shutdown")
async def shut_down(call: Call) -> Response:
    """Stops the containers of this member, then ends its daemon; answers before it does."""
    call.node.shutdown.set()
    return empty()


@route("GET", "/internal/cluster/status")
async def show_status(call: Call) -> Response:
    """How the store and the members do, from this member's own state: it answers without a quorum too."""
    return sync(call.node.cluster.status())


@route("POST", "/internal/cluster/accept", guest=True, body=Joiner)
async def accept_member(call: Call) -> Response:
    """Lets a server join that is trusted or knows the trust password; it shows the key that it will have here."""
    joiner = await call.json(Joiner)
    if not call.caller.trusted and not await call.node.admits(joiner.password):
        raise Forbidden()
    if not call.caller.peer.certificate:
        raise Forbidden("a joining server must show its certificate")
    return sync(await call.node.cluster.accept(joiner, call.caller.peer.certificate))


@route("GET", "/internal/cluster/digest")
async def show_digest(call: Call) -> Response:
    """The index that this member has applied, and a checksum of all it holds there: the same on every member."""
    state = call.node.log.state
    return sync({"index": state.index, "digest": await trio.to_thread.run_sync(state.digest)})


@route("POST", "/internal/cluster/refetch")
async def record_loss(call: Call) -> Response:
    """A member lost its store, and says so itself: it has no vote from here on, and may begin its log anew."""
    if call.caller.member is None:
        raise Forbidden()
    return sync(await call.node.cluster.refetch(call.caller.member))


@route("POST", "/internal/cluster/drop", body=Drop)
async def drop_member(call: Call) -> Response:
    """Forgets a join that has failed; only the joining member itself and other members may ask."""
    body = await call.json(Drop)
    if call.caller.member is None:
        raise Forbidden()
    return sync({"joined": await call.node.cluster.drop(body.number)})
