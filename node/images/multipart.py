"""An image on its way through HTTP: one file as it is, or two halves as multipart (spec/images.md 3 and 6).

Owns the order of the parts, for uploads and downloads alike; refuses to judge what has arrived."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Event, File, MultipartDecoder, NeedData, State

from lxdnode.node.errors import Invalid
from lxdnode.node.images.files import PARTS

Write = Callable[[str, bytes], Awaitable[None]]
"""Takes the next bytes of a part (`metadata`, which is all of a unified image, or `rootfs`)."""
_MULTIPART = "multipart/form-data"
_LIMIT = 1 << 20
"""Bytes that the decoder may keep without a part that they belong to: a server of images chooses what it sends."""
_INVALID = "Invalid multipart image"


async def receive(content_type: str, chunks: AsyncIterator[bytes], write: Write) -> str | None:
    """Gives a body to `write`; returns the file name of the `rootfs` part, None when the body is one file.

    Invalid with LXD's words when it is multipart, but not `metadata` and then `rootfs`."""
    kind, options = parse_options_header(content_type)
    if kind != _MULTIPART:
        async for chunk in chunks:
            await write(PARTS[0], chunk)
        return None
    parts, held = _Parts(options.get("boundary", ""), write), b""
    async for chunk in chunks:
        data, held = _cut(held + chunk)
        await parts.feed(data)
    await parts.feed(held)
    return parts.finish()


def _cut(data: bytes) -> tuple[bytes, bytes]:
    """Data without the last dashes, and these: the decoder (werkzeug 3.1.9) takes a carriage return for content when
    what it has ends between the two dashes that follow the last boundary."""
    end = max(len(data.rstrip(b"-")), len(data) - 2)
    return data[:end], data[end:]


class _Parts:
    """The two parts as they come."""

    def __init__(self, boundary: str, write: Write) -> None:
        self._decoder = MultipartDecoder(boundary.encode(), max_form_memory_size=None)
        self._write = write
        self._left = list(PARTS)
        self._part = self._filename = ""
        self._undecided = 0

    async def feed(self, data: bytes) -> None:
        """Takes the next bytes of the body."""
        self._undecided += len(data)
        for event in self._events(data):
            self._undecided = 0
            if isinstance(event, File):
                self._begin(event)
            elif isinstance(event, Data) and self._part:
                await self._write(self._part, event.data)
        if self._undecided > _LIMIT:
            raise Invalid(_INVALID)

    def _events(self, data: bytes) -> Iterator[Event]:
        """What some bytes complete. Invalid when they are no multipart at all."""
        try:
            self._decoder.receive_data(data)
            while not isinstance(event := self._decoder.next_event(), NeedData | Epilogue):
                yield event
        except ValueError:
            raise Invalid(_INVALID) from None

    def _begin(self, file: File) -> None:
        if not self._left or file.name != self._left[0]:
            raise Invalid(_INVALID)
        self._part, self._filename = self._left.pop(0), file.filename

    def finish(self) -> str:
        """The file name of the last part. Invalid when something is missing, be it the last boundary."""
        if self._left or self._decoder.state is not State.EPILOGUE:
            raise Invalid(_INVALID)
        return self._filename
