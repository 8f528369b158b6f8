"""`lxd-node cluster recover`, `backup` and `restore`: what to do when the majority, or the data, is gone for good."""

from pathlib import Path

import click

from lxdnode.node.cli.client import ApiError, Client, state_directory
from lxdnode.node.cli.lifecycle import directory_option
from lxdnode.node.cli.output import progress


@click.command()
@directory_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def recover(directory: str | None, yes: bool) -> None:
    """Make this survivor writable when the majority of the voters is gone for good.

    The survivors that answer are compared first: exit code 2 names the one that holds more. Members of the old epoch
    are refused until they are reset and join again."""
    if not yes:
        click.confirm("Members that are away now must join anew. Is the majority gone for good?", abort=True)
    with progress("comparing the survivors"):
        renewed = Client(state_directory(directory)).ask("POST", "/internal/cluster/recover")
    compared = ", ".join(renewed["asked"]) or "no other member answered"
    click.echo(f"This member is writable in epoch {renewed['epoch']}; compared with: {compared}")
    click.echo(f"All entries up to {renewed['index']} are kept; what only lost members held cannot be proven kept.")
    if renewed["index"] > renewed["commit"]:
        first = renewed["commit"] + 1
        click.echo(
            f"Entries {first} to {renewed['index']} may never have been acknowledged to anybody; they are in force now."
        )
    click.echo(f"The store before is in {renewed['kept']}")


@click.command()
@directory_option
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(directory: str | None, file: Path) -> None:
    """Write all documents into FILE, while everything runs. Data of containers and images are not in it."""
    with progress("backing up"):
        data = Client(state_directory(directory)).fetch("/internal/cluster/backup")
        file.touch(mode=0o600)
        file.write_bytes(data)
    click.echo(f"{file}: {len(data)} bytes")


@click.command()
@directory_option
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(directory: str | None, file: Path, yes: bool) -> None:
    """Make the documents of the backup FILE those of this member, alone and in a new epoch.

    Containers that were made since keep their data, which `lxd-node cluster status` lists as unknown."""
    if not yes:
        click.confirm(f"What was changed since {file} was written is given up. Go on?", abort=True)
    client = Client(state_directory(directory))
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ApiError(f"{file}: {error.strerror}") from error
    with progress("restoring"):
        renewed = client.ask("POST", "/internal/cluster/restore", data)
    click.echo(f"The documents of index {renewed['index']} are in force, in epoch {renewed['epoch']}")
    click.echo(f"The store before is in {renewed['kept']}")
