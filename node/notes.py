"""Notes: durable facts of this host alone (what runs, open intents), which never enter the log (DESIGN.md 3.5).

Owns a small file per note, written whole and synced; refuses to know what is noted."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from lxdnode.node.durable import sync_folder

N = TypeVar("N", bound=msgspec.Struct)


class Notes:
    """Notes in `directory`, as KIND/NAME files of msgpack. Calls are synchronous: a note is a few hundred bytes, and
    writing it costs one sync of the disk (0.3 ms), which the work that follows depends on."""

    def __init__(self, directory: Path) -> None:
        """For the daemon alone: what its predecessor left half written is removed."""
        self._directory = directory
        for unfinished in directory.glob("*/.*"):
            unfinished.unlink()

    def put(self, kind: str, name: str, note: msgspec.Struct) -> None:
        """Writes a note durably in place of the one before."""
        folder = self._directory / kind
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary, final = folder / f".{name}", folder / name
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.msgpack.encode(note))
            file.flush()
            os.fdatasync(file.fileno())
        temporary.rename(final)
        sync_folder(folder)

    def get(self, kind: str, name: str, type: type[N]) -> N | None:
        """The note of a name, or None."""
        try:
            return msgspec.msgpack.decode((self._directory / kind / name).read_bytes(), type=type)
        except FileNotFoundError:
            return None

    def all(self, kind: str, type: type[N]) -> Iterator[tuple[str, N]]:
        """(name, note) of every note of a kind, by name."""
        folder = self._directory / kind
        for path in sorted(folder.iterdir()) if folder.exists() else ():
            if not path.name.startswith("."):
                yield path.name, msgspec.msgpack.decode(path.read_bytes(), type=type)

    def delete(self, kind: str, name: str) -> None:
        """Removes a note; one that is not there is fine. Not synced: a note that is back after a power cut is looked
        at again, like any other."""
        (self._directory / kind / name).unlink(missing_ok=True)
