"""/internal/cluster: recovery without a majority, backups and restores, for the lxd-node command."""

from collections.abc import AsyncIterator

import trio
from quart.wrappers import Response

from lxdnode.api.responses import raw, sync
from lxdnode.api.route import Call, route
from lxdnode.node.cluster.recovery import Recovery

BACKUP_LIMIT = 1 << 30
"""Bytes of a backup that is restored: documents only, files of images and containers are never in it."""


@route("GET", "/internal/cluster/standing")
async def show_standing(call: Call) -> Response:
    """How far this member's log reaches: survivors compare themselves by it."""
    return sync(_recovery(call).standing())


@route("POST", "/internal/cluster/recover")
async def recover(call: Call) -> Response:
    """Makes this survivor writable in a new epoch; refused with 412 when another survivor holds more."""
    return sync(await _recovery(call).recover())


@route("GET", "/internal/cluster/backup")
async def back_up(call: Call) -> Response:
    """All documents as one verified file, while everything runs."""
    await call.view()
    frames = _recovery(call).back_up()

    async def body() -> AsyncIterator[bytes]:
        for frame in frames:
            yield frame
            await trio.lowlevel.checkpoint()

    return raw(body())


@route("POST", "/internal/cluster/restore")
async def restore(call: Call) -> Response:
    """Makes the documents of a backup those of this member, in a new epoch."""
    return sync(await _recovery(call).restore(await call.body(BACKUP_LIMIT)))


def _recovery(call: Call) -> Recovery:
    found: Recovery = call.node.recovery
    return found
