"""The `lxd-node` command: a daemon, its setting up, and the care of its cluster. Containers are driven with `lxc`."""

import sys

import click

from lxdnode.node.cli import recovery
from lxdnode.node.cli.certificates import certificate, cluster_certificate
from lxdnode.node.cli.client import ApiError
from lxdnode.node.cli.cluster import cluster
from lxdnode.node.cli.completion import completion
from lxdnode.node.cli.history import history
from lxdnode.node.cli.lifecycle import daemon, shutdown, version, waitready
from lxdnode.node.cli.setup import init
from lxdnode.node.cli.store import store

_EXIT_FAILED, _EXIT_BEHIND, _EXIT_INTERRUPTED = 1, 2, 130
_PRECONDITION = 412


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def lxd_node() -> None:
    """Run lxd-node, a container manager that speaks LXD's API, and care for its cluster.

    \b
    Every command works on one state directory: --dir, else $LXD_DIR, else /var/lib/lxd-node.
    Containers, images, networks and pools are driven with the `lxc` client:
      LXD_DIR=/var/lib/lxd-node lxc launch IMAGE NAME

    \b
    A first member:                       lxd-node daemon &  lxd-node waitready  lxd-node init --auto
    A cluster:                            lxd-node init (it asks), or lxd-node cluster join
    """


for command in (daemon, init, waitready, shutdown, version, certificate, cluster, history, store, completion):
    lxd_node.add_command(command)
for command in (recovery.recover, recovery.backup, recovery.restore, cluster_certificate):
    cluster.add_command(command)


def main() -> None:
    """The entry point. Exit codes: 0 done, 1 refused or failed, 2 wrong usage or the
    wrong member (another one holds more), 130 interrupted."""
    try:
        sys.exit(lxd_node.main(prog_name="lxd-node", standalone_mode=False) or 0)
    except ApiError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(_EXIT_BEHIND if error.code == _PRECONDITION else _EXIT_FAILED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted", err=True)
        sys.exit(_EXIT_INTERRUPTED)
