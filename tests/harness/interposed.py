"""A daemon's wall clock that is off, and syncs of it that fail: the two faults that take a library before libc.

Owns building it (interposed.c) and the files by which a running daemon is told; refuses to choose when."""

from pathlib import Path

from tests.harness.daemons import Daemon
from tests.harness.namespaces import run

_SOURCE = Path(__file__).with_name("interposed.c")


def build(directory: Path) -> Path:
    """The library, in `directory`."""
    library = directory / "interposed.so"
    run("gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library), str(_SOURCE), "-ldl")
    return library


class Interposed:
    """What a daemon that is started from now on can be told."""

    def __init__(self, daemon: Daemon, library: Path) -> None:
        self._faults = Path(f"{daemon.directory}.faults")
        self._faults.mkdir(parents=True)
        daemon.extra |= {"LD_PRELOAD": str(library), "LXD_NODE_TEST_FAULTS": str(self._faults)}

    def set_clock(self, offset: int) -> None:
        """Its wall clock jumps to so many seconds off, and goes on from there; 0 puts it right."""
        fresh = self._faults / "clock.new"
        fresh.write_text(str(offset))
        fresh.rename(self._faults / "clock")

    def fail_syncs(self) -> None:
        """fsync and fdatasync give EIO until `mend_syncs`; what was written stays in the page cache."""
        (self._faults / "syncs").touch()

    def mend_syncs(self) -> None:
        (self._faults / "syncs").unlink(missing_ok=True)
