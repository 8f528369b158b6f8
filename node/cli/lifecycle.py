"""The commands about the daemon itself: `daemon`, `waitready`, `shutdown`, `version`."""

import importlib.metadata
import time
from collections.abc import Callable
from typing import Any

import click

from lxdnode.node.cli.client import ApiError, Client, state_directory
from lxdnode.node.cli.output import progress
from lxdnode.node.errors import NodeError
from lxdnode.node.server.description import API_LEVEL

directory_option: Callable[[Any], Any] = click.option(
    "--dir", "directory", metavar="DIR", help="State directory (else $LXD_DIR, else /var/lib/lxd-node)."
)


@click.command()
@directory_option
@click.option("--logfile", metavar="FILE", help="Write the log to FILE instead of the standard error.")
@click.option("--group", metavar="GROUP", help="Group that may use the unix socket.")
@click.option("--verbose", is_flag=True, help="Log what is done.")
@click.option("--debug", is_flag=True, help="Log everything.")
def daemon(directory: str | None, logfile: str | None, group: str | None, verbose: bool, debug: bool) -> None:
    """Run a member's daemon in the foreground.

    TERM and INT end it and leave containers running; PWR stops the containers first."""
    # Imported here: the other commands must not pay for loading the daemon's parts.
    from lxdnode.node.daemon import run

    level = "debug" if debug else "info" if verbose else "warning"
    try:
        run(state_directory(directory), logfile=logfile, group=group, level=level)
    except NodeError as error:
        raise ApiError(str(error)) from error


@click.command()
@directory_option
@click.option("--timeout", type=float, metavar="SECONDS", help="How long to wait; without it for ever.")
def waitready(directory: str | None, timeout: float | None) -> None:
    """Wait until the daemon answers and containers may start."""
    with progress("waiting for the daemon"):
        Client(state_directory(directory)).wait_ready(timeout)


@click.command()
@directory_option
@click.option("--timeout", type=float, metavar="SECONDS", help="How long to wait for its end; without it for ever.")
def shutdown(directory: str | None, timeout: float | None) -> None:
    """Stop this member's containers and end its daemon; returns when it has gone."""
    client = Client(state_directory(directory), timeout)
    with progress("stopping the containers"):
        client.ask("PUT", "/internal/shutdown")
        deadline = None if timeout is None else time.monotonic() + timeout
        while client.socket.exists():
            if deadline is not None and time.monotonic() >= deadline:
                raise ApiError(f"the daemon is still there after {timeout:g} s; see its log")
            time.sleep(0.05)


@click.command()
def version() -> None:
    """Print the version of lxd-node and the level of its API."""
    click.echo(f"lxd-node {importlib.metadata.version('lxd-node')} (API of LXD {API_LEVEL})")
