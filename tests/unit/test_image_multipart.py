"""Images in multipart: the two halves in their order, and what is none of it."""

from collections.abc import AsyncIterator, Iterable

import pytest

from lxdnode.node.errors import Invalid
from lxdnode.node.images import multipart

KIND = "multipart/form-data; boundary=XX"


def part(name: str, content: bytes) -> bytes:
    head = f'--XX\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.file"\r\n\r\n'
    return head.encode() + content + b"\r\n"


class Sent(AsyncIterator[bytes]):
    """A body in chunks."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


async def receive(kind: str, *chunks: bytes) -> tuple[str | None, dict[str, bytes]]:
    """(file name, bytes by part)."""
    parts: dict[str, bytes] = {}

    async def write(name: str, data: bytes) -> None:
        parts[name] = parts.get(name, b"") + data

    return await multipart.receive(kind, Sent(chunks), write), parts


async def test_one_file_is_all_metadata_and_two_are_told_apart_however_they_are_cut() -> None:
    assert await receive("application/octet-stream", b"a", b"b") == (None, {"metadata": b"ab"})
    body = part("metadata", b"first--X") + part("rootfs", b"second----") + b"--XX--\r\n"
    for size in range(1, len(body) + 1):
        chunks = [body[at : at + size] for at in range(0, len(body), size)]
        assert await receive(KIND, *chunks) == ("rootfs.file", {"metadata": b"first--X", "rootfs": b"second----"})


@pytest.mark.parametrize(
    "chunks",
    [
        [part("rootfs", b"x"), b"--XX--\r\n"],
        [part("metadata", b"x"), b"--XX--\r\n"],
        [part("metadata", b"x"), part("metadata", b"x")],
        [part("metadata", b"x"), part("rootfs", b"broken off")],
        [b"no boundary" * 100_000] * 4,
        [b"--XX\r\n" + b"Header: x\r\n" * 200_000],
        [part("metadata", b"x"), part("rootfs", b"x"), b"--XX--\r\n", *[b"more" * 100_000] * 4],
        [b"--XX\r\nContent-Disposition: \xff\xfe\r\n\r\nx\r\n--XX--\r\n"],
        [b""],
    ],
)
async def test_what_is_no_image_in_two_parts_is_refused_and_never_kept(chunks: list[bytes]) -> None:
    with pytest.raises(Invalid, match="^Invalid multipart image$"):
        await receive(KIND, *chunks)
