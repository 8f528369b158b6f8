"""Images as clients send them: one file, or two as multipart, streamed to where they are kept.

Owns the parsing of the body and of the X-LXD-* headers (spec/images.md 3); refuses to judge what has arrived."""

import urllib.parse
from collections.abc import AsyncIterator

from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, File, MultipartDecoder, NeedData

from lxdnode.api.route import Call
from lxdnode.node.errors import Invalid
from lxdnode.node.images.files import PARTS, Incoming
from lxdnode.node.images.images import Wanted

_MULTIPART = "multipart/form-data"
INVALID = "Invalid multipart image"


async def receive(call: Call, chunks: AsyncIterator[bytes], incoming: Incoming) -> Wanted:
    """Takes a body into `incoming`; returns what its headers ask of the image.

    Invalid with LXD's words when it is multipart, but not `metadata` and then `rootfs`."""
    kind, options = parse_options_header(call.headers.get("Content-Type", ""))
    if kind != _MULTIPART:
        async for chunk in chunks:
            await incoming.write(PARTS[0], chunk)
        return wanted(call, call.headers.get("X-LXD-filename", ""))
    decoder = MultipartDecoder(options.get("boundary", "").encode(), max_form_memory_size=None)
    filename = await _receive_parts(decoder, chunks, incoming)
    return wanted(call, filename)


async def _receive_parts(decoder: MultipartDecoder, chunks: AsyncIterator[bytes], incoming: Incoming) -> str:
    """Returns the file name of the `rootfs` part."""
    left, part, filename = list(PARTS), "", ""
    async for chunk in chunks:
        decoder.receive_data(chunk)
        while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
            if isinstance(event, File):
                if not left or event.name != left[0]:
                    raise Invalid(INVALID)
                part, filename = left.pop(0), event.filename
            elif isinstance(event, Data) and part:
                await incoming.write(part, event.data)
    if left:
        raise Invalid(INVALID)
    return filename


def wanted(call: Call, filename: str) -> Wanted:
    """What the X-LXD-* headers ask. Clients write `true` where LXD's own server reads a number: both are taken."""
    pairs = urllib.parse.parse_qsl(call.headers.get("X-LXD-properties", ""), keep_blank_values=True)
    return Wanted(
        filename=filename,
        public=call.headers.get("X-LXD-public", "").lower() in ("1", "true"),
        properties=dict(pairs),
        expected=call.headers.get("X-LXD-fingerprint", ""),
    )
