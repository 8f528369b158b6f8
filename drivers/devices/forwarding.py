"""The daemon's side of proxy devices: their processes are started, found again and ended.

Owns what the note of a process (`proxy.NAME.pid`: pid and start time) is good for; refuses to move bytes and to write
the note (`forwarder.py` does, so that there is one whenever there is a process)."""

import select
import signal
import sys
from pathlib import Path

import msgspec

from lxdnode.drivers.command import run
from lxdnode.drivers.devices.forwarder import Forward
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.runtime.process import Process

_MODULE = "lxdnode.drivers.devices.forwarder"
_START_LIMIT = 20.0
_STOP_LIMIT = 2000
"""Milliseconds."""


async def start(forward: Forward, pid: int) -> None:
    """Starts the process of a proxy of the container of init `pid`; it outlives the daemon. DriverError."""
    text = msgspec.json.encode(forward, enc_hook=str).decode()
    output = await run(sys.executable, "-P", "-m", _MODULE, text, str(pid), timeout=_START_LIMIT, is_service=True)
    answer = msgspec.json.decode(output)
    if "error" in answer:
        raise DriverError(answer["error"])


def stop(file: Path) -> None:
    """Ends the process that a note tells of; nothing when it has gone already. Blocks for some milliseconds."""
    try:
        pid, started = file.read_text().split()
    except FileNotFoundError:
        return
    process = Process.open(int(pid), int(started)) if started.isdigit() else None
    if process is not None:
        process.signal(signal.SIGTERM)
        ended = select.poll()
        ended.register(process.pidfd, select.POLLIN)
        if not ended.poll(_STOP_LIMIT):
            process.signal(signal.SIGKILL)
    file.unlink(missing_ok=True)
