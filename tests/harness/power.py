"""A disk of a member's own, which forgets what was not synced when its power is cut, and can be filled.

An ext4 file system in a loop file: kill -9 alone keeps the page cache, so a power cut is the loop file as it is at that
moment. Owns mounting and what is lost; refuses to stop the daemon first, which the caller does."""

import os
from contextlib import suppress
from pathlib import Path

from tests.harness.namespaces import run

SIZE = "96M"
_BLOCK = 1 << 16


class Disk:
    """The disk under `directory`, mounted from DIRECTORY.disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._image = Path(f"{directory}.disk")
        self._ballast = directory / "ballast"

    def make(self) -> None:
        """An empty one, mounted."""
        self._directory.mkdir(mode=0o711, parents=True)
        run("truncate", "-s", SIZE, str(self._image))
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", str(self._image))
        self._mount()

    def cut_power(self) -> None:
        """What was not synced is gone. Nothing writes back in the moment of the copy: the commits are far apart."""
        after = self._image.with_suffix(".cut")
        run("cp", "--sparse=always", str(self._image), str(after))
        self.unmount()
        after.rename(self._image)
        self._mount()

    def _mount(self) -> None:
        run("mount", "-o", "loop,commit=300", str(self._image), str(self._directory))
        self._directory.chmod(0o711)

    def unmount(self) -> None:
        run("umount", "-l", str(self._directory), check=False)

    def fill(self) -> None:
        """Leaves no room."""
        for size in (_BLOCK, 256):
            with open(self._ballast, "ab", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(size))

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def flip(self, chance: float) -> str:
        """One bit of a journal or of the newest snapshot is wrong, `chance` of the way through the file; its name."""
        files = sorted((self._directory / "raft").glob("journal-*[0-9]"))
        files += sorted((self._directory / "raft").glob("snapshot-*[0-9]"))[-1:]
        path = files[int(chance * len(files))]
        position = int(chance * 7919 % 1 * path.stat().st_size)
        with open(path, "r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 8]))
            os.fsync(file.fileno())
        return path.name
