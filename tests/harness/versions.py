"""Programs of other versions, to run beside the current one: the last release, and a next one.

Owns where their source comes from; refuses to install anything: a daemon runs one by PYTHONPATH, with the libraries of
the tests. A release that needs others must bring a virtual environment of its own here."""

import shutil
import subprocess
from pathlib import Path

from lxdnode.node.server.description import VERSION
from lxdnode.raft.transaction import LEVEL

ROOT = Path(__file__).resolve().parents[2]
RELEASE = "9bffce59479304975693f2a58e79fa33670b792d"
"""The commit of the last release. An id, since tags do not come with every clone."""
NEXT_LEVEL, NEXT_VERSION = LEVEL + 1, "9.9.0"
_PACKAGES = ("api", "drivers", "node", "raft", "src")


class NotInThisClone(Exception):
    """The history does not reach back to the commit."""


def release(target: Path) -> Path:
    """Unpacks the last release into `target`, which must not exist."""
    packed = subprocess.run(["git", "-C", ROOT, "archive", RELEASE, *_PACKAGES], capture_output=True)
    if packed.returncode:
        raise NotInThisClone(f"{RELEASE[:7]} cannot be had: {packed.stderr.decode().strip()}")
    target.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", target], input=packed.stdout, check=True)
    return target


def next_release(target: Path) -> Path:
    """A copy of the current program that knows one level more, and writes what this one does not know: a field and a
    nested field in profiles and members, and a table."""
    for package in _PACKAGES:
        shutil.copytree(ROOT / package, target / package, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    _edit(target / "raft/transaction.py", f"\nLEVEL = {LEVEL}\n", f"\nLEVEL = {NEXT_LEVEL}\n")
    _edit(target / "node/server/description.py", f'\nVERSION = "{VERSION}"\n', f'\nVERSION = "{NEXT_VERSION}"\n')
    _edit(
        target / "node/profiles/records.py",
        "    devices: dict[str, dict[str, str]] = {}\n",
        '    devices: dict[str, dict[str, str]] = {}\n    future: str = "field"\n',
    )
    _edit(
        target / "node/profiles/rules.py",
        "    draft.put(PROFILES, id, profile)\n    return id\n",
        "    draft.put(PROFILES, id, profile)\n    draft.put(FUTURES, id, profile)\n    return id\n\n\n"
        'FUTURES = type(PROFILES)("futures", Profile)\n',
    )
    return target


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path} has not exactly one {old!r}"
    path.write_text(text.replace(old, new))
