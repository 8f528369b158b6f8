"""Frames that a container sends under a foreign MAC address: dropped where they enter the bridge.

Owns an nftables table of the family bridge for each nic, and the file that notes it; refuses addresses of IP.
Rejected: ebtables, as LXD (its rules must be found again one by one), and tc (no match of kernels in use negates)."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

from lxdnode.drivers.errors import DriverError

KIND = "filter"
"""Of the file that notes a table; the interface's name is its last part."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_ADDRESS = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_RULES = """\
table {table} {{
  chain source {{
    type filter hook prerouting priority filter; policy accept;
    iifname "{interface}" ether saddr != {hwaddr} drop
  }}
}}
"""


def apply(note: Path, hwaddr: str) -> None:
    """Lets frames with the source `hwaddr` alone come from an interface, by whose name `note` ends, whether it is there
    already or not. Blocks. DriverError."""
    interface = _interface(note)
    if not _NAME.fullmatch(interface) or not _ADDRESS.fullmatch(hwaddr):
        raise DriverError(f"The MAC addresses of '{interface}' cannot be filtered by '{hwaddr}': one of them is odd")
    note.touch()
    _replace(interface, _RULES.format(table=_table(interface), interface=interface, hwaddr=hwaddr))


def remove(note: Path) -> None:
    """Removes the table that a file notes, and the file. Blocks. DriverError."""
    _replace(_interface(note), "")
    note.unlink(missing_ok=True)


def _interface(note: Path) -> str:
    return unquote(note.name.rpartition(".")[2])


def _table(interface: str) -> str:
    return f"bridge lxd-node-nic-{interface}"


def _replace(interface: str, rules: str) -> None:
    """Puts rules in place of an interface's table in one step."""
    # Deleting a table that does not exist is an error; declaring one that exists is none.
    script = f"table {_table(interface)}\ndelete table {_table(interface)}\n{rules}"
    done = subprocess.run(["nft", "-f", "-"], input=script, capture_output=True, text=True)
    if done.returncode:
        raise DriverError(f"The MAC addresses of {interface} cannot be filtered: {done.stderr.strip()}")
