"""An image on its way through HTTP: one file as it is, or two halves as multipart (spec/images.md 3 and 6).

Owns the order of the parts, for uploads and downloads alike; refuses to judge what has arrived."""

from collections.abc import AsyncIterator, Awaitable, Callable

from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, File, MultipartDecoder, NeedData

from lxdnode.node.errors import Invalid
from lxdnode.node.images.files import PARTS

Write = Callable[[str, bytes], Awaitable[None]]
"""Takes the next bytes of a part (`metadata`, which is all of a unified image, or `rootfs`)."""
_MULTIPART = "multipart/form-data"
_INVALID = "Invalid multipart image"


async def receive(content_type: str, chunks: AsyncIterator[bytes], write: Write) -> str | None:
    """Gives a body to `write`; returns the file name of the `rootfs` part, None when the body is one file.

    Invalid with LXD's words when it is multipart, but not `metadata` and then `rootfs`."""
    kind, options = parse_options_header(content_type)
    if kind != _MULTIPART:
        async for chunk in chunks:
            await write(PARTS[0], chunk)
        return None
    decoder = MultipartDecoder(options.get("boundary", "").encode(), max_form_memory_size=None)
    return await _receive_parts(decoder, chunks, write)


async def _receive_parts(decoder: MultipartDecoder, chunks: AsyncIterator[bytes], write: Write) -> str:
    left, part, filename = list(PARTS), "", ""
    async for chunk in chunks:
        decoder.receive_data(chunk)
        while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
            if isinstance(event, File):
                if not left or event.name != left[0]:
                    raise Invalid(_INVALID)
                part, filename = left.pop(0), event.filename
            elif isinstance(event, Data) and part:
                await write(part, event.data)
    if left:
        raise Invalid(_INVALID)
    return filename
