"""Images as clients send them: one file, or two as multipart, streamed to where they are kept.

Owns the X-LXD-* headers (spec/images.md 3); refuses to judge what has arrived."""

import urllib.parse
from collections.abc import AsyncIterator

from lxdnode.api.route import Call
from lxdnode.node.images import multipart
from lxdnode.node.images.files import Incoming
from lxdnode.node.images.images import Wanted


async def receive(call: Call, chunks: AsyncIterator[bytes], incoming: Incoming) -> Wanted:
    """Takes a body into `incoming`; returns what its headers ask of the image.

    Invalid with LXD's words when it is multipart, but not `metadata` and then `rootfs`."""
    kind = call.headers.get("Content-Type", "")
    filename = await multipart.receive(kind, chunks, incoming.write)
    return wanted(call, call.headers.get("X-LXD-filename", "") if filename is None else filename)


def wanted(call: Call, filename: str) -> Wanted:
    """What the X-LXD-* headers ask. Clients write `true` where LXD's own server reads a number: both are taken."""
    pairs = urllib.parse.parse_qsl(call.headers.get("X-LXD-properties", ""), keep_blank_values=True)
    return Wanted(
        filename=filename,
        public=call.headers.get("X-LXD-public", "").lower() in ("1", "true"),
        properties=dict(pairs),
        expected=call.headers.get("X-LXD-fingerprint", ""),
    )
