"""`lxd-node store`: looks into the store where it lies, whether its daemon runs or not."""

import json
from pathlib import Path
from typing import Any

import click
import msgspec

from lxdnode.node.cli.client import ApiError, state_directory
from lxdnode.node.cli.history import choices, collect, print_history
from lxdnode.node.cli.lifecycle import directory_option
from lxdnode.node.documents import View
from lxdnode.node.errors import Invalid
from lxdnode.node.history import entries
from lxdnode.raft import archive, recovery
from lxdnode.raft.framing import Damaged
from lxdnode.raft.recovery import Contents


@click.group()
def store() -> None:
    """Verify and dump the replicated store of this member, and its history."""


@store.command()
@directory_option
@click.argument("backup", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def verify(directory: str | None, backup: Path | None) -> None:
    """Read every record of the store, or of a BACKUP, and check it."""
    contents = _read(directory, backup)
    identity, documents = contents.identity, sum(1 for _ in _documents(contents))
    click.echo(f"cluster {identity.cluster}, epoch {identity.epoch}, member {identity.member}")
    click.echo(f"entries up to {contents.position.index} of term {contents.position.term}, {contents.commit} committed")
    click.echo(f"{documents} documents, digest {contents.state.digest()}")


@store.command()
@directory_option
@click.argument("backup", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def dump(directory: str | None, backup: Path | None) -> None:
    """Print every document of the store, or of a BACKUP, as a line of JSON."""
    for row in _documents(_read(directory, backup)):
        click.echo(json.dumps(row, default=repr))


@store.command()
@directory_option
@choices
def history(directory: str | None, style: str, diff: bool, **wanted: Any) -> None:
    """Print what was changed, as `lxd-node history` does, from the files alone: the member may be stopped."""
    contents = _read(directory, None)
    assert contents.disk is not None, "only a backup has none"
    disk, tail = contents.disk, archive.clip(contents.tail, 0, contents.commit)

    def ask(values: dict[str, str]) -> Any:
        try:
            found = entries.find(disk, entries.ask(values, View(contents.state)), [tail])
        except Invalid as error:
            raise ApiError(str(error)) from error
        return msgspec.to_builtins(found)

    print_history(collect(ask, wanted), style, diff)


def _read(directory: str | None, backup: Path | None) -> Contents:
    path = backup or state_directory(directory) / "raft"
    try:
        return recovery.read_backup(backup.read_bytes()) if backup else recovery.read(path)
    except (Damaged, OSError) as error:
        raise ApiError(f"{path}: {error}") from error


def _documents(contents: Contents) -> Any:
    state = contents.state
    for table in sorted(state.tables):
        for group in sorted(state.groups(table)):
            for name, document in sorted(state.group(table, group).items()):
                value = entries.readable(table, name, document.value)
                yield {"table": table, "group": group, "name": name, "revision": document.revision, "value": value}
