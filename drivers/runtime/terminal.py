"""Terminals of a container: made in its own devpts, so that the command finds its name under /dev/pts.

Owns the ioctls; refuses to move bytes."""

import contextlib
import fcntl
import os
import struct
import termios

_TIOCSPTLCK = 0x40045431
_UNLOCK = struct.pack("i", 0)
_TIOCGPTPEER = 0x5441
_LARGEST = 0xFFFF


def open_terminal(pid: int, uid: int, gid: int) -> tuple[int, int]:
    """The master and the slave of a new terminal in the container of init `pid`, owned by the host's ids given."""
    master = os.open(f"/proc/{pid}/root/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, _UNLOCK)
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        os.fchown(slave, uid, gid)
    except BaseException:
        os.close(master)
        raise
    return master, slave


def resize(master: int, width: int, height: int) -> None:
    """Sets the size of a terminal, whose foreground process gets a SIGWINCH; nothing when it has gone, or for a size
    that no terminal has (0 is "not given")."""
    if not (0 < width <= _LARGEST and 0 < height <= _LARGEST):
        return
    with contextlib.suppress(OSError):
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
