"""Records on disk: magic, length, CRC32 and a msgpack payload, so that a torn end is told from damage in the middle.

Owns the framing of journal and snapshots; refuses to know what the payloads mean."""

import struct
import zlib
from collections.abc import Iterator

MAGIC = b"lxr1"
_HEAD = struct.Struct(">4sII")


SECTOR = 512
compares = True
"""Whether checksums count: switched off by tests alone, which must find that."""


class Damaged(Exception):
    """A file holds something that was once synced and cannot be read now. The message says how to go on."""


class NewerFormat(Damaged):
    """The file is whole: a newer version wrote it. To fetch the state from others would not help."""

    def __init__(self, message: str, level: int) -> None:
        """`level`: what it needs, or the lowest that it may need."""
        self.level = level
        super().__init__(message)


def frame(payload: bytes) -> bytes:
    return _HEAD.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload


def payload_at(data: bytes, offset: int) -> bytes | None:
    """The payload of the frame that starts at `offset`; None when no whole and undamaged frame does."""
    if offset + _HEAD.size > len(data):
        return None
    magic, length, checksum = _HEAD.unpack_from(data, offset)
    payload = data[offset + _HEAD.size : offset + _HEAD.size + length]
    whole = magic == MAGIC and len(payload) == length and (zlib.crc32(payload) == checksum or not compares)
    return payload if whole else None


def payloads(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each undamaged frame from the start on, as (offset behind it, payload), up to the first that is not whole."""
    offset = 0
    while (payload := payload_at(data, offset)) is not None:
        offset += _HEAD.size + len(payload)
        yield offset, payload


def is_torn(data: bytes, offset: int) -> bool:
    """Whether what is at `offset` can be the part of a frame that a power cut left: it is shorter than it says, or its
    last sector was never written. A frame of its full length with a wrong bit is damage: it may have been synced."""
    rest = data[offset:]
    last_sector = rest[-(len(data) % SECTOR or SECTOR) :]
    if len(rest) < _HEAD.size or not any(last_sector):
        return True
    magic, length, checksum = _HEAD.unpack_from(rest)
    payload = rest[_HEAD.size :]
    return bool(magic == MAGIC and len(payload) < length and zlib.crc32(payload) != checksum)


def continues(data: bytes, offset: int) -> bool:
    """Whether a whole frame starts anywhere behind `offset`: then what is at `offset` was no torn end."""
    while (offset := data.find(MAGIC, offset + 1)) >= 0:
        if payload_at(data, offset) is not None:
            return True
    return False
