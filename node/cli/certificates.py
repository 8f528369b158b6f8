"""`lxd-node certificate` and `lxd-node cluster certificate`: replaces what a member, or the whole cluster, shows."""

from pathlib import Path
from urllib.parse import quote

import click

from lxdnode.node.cli.client import Client, state_directory
from lxdnode.node.cli.lifecycle import directory_option

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@directory_option
@click.argument("certificate", type=_FILE)
@click.argument("key", type=_FILE)
@click.option("--member", metavar="NAME", help="Of the cluster's member NAME, instead of the one asked.")
def certificate(directory: str | None, certificate: Path, key: Path, member: str | None) -> None:
    """Replace a member's own certificate and key by those in the files CERTIFICATE and KEY (PEM).

    A server that is in no cluster shows it to its clients. In a cluster it is what members know each other by: all of
    them must be there."""
    path = "/internal/certificate" + (f"?target={quote(member, safe='')}" if member else "")
    Client(state_directory(directory)).ask("PUT", path, {"certificate": _text(certificate), "key": _text(key)})
    click.echo("The certificate was replaced")


@click.command("certificate")
@directory_option
@click.argument("certificate", type=_FILE)
@click.argument("key", type=_FILE)
def cluster_certificate(directory: str | None, certificate: Path, key: Path) -> None:
    """Replace the certificate and key that all servers of the cluster show, by those in CERTIFICATE and KEY (PEM).

    Members that are away take it when they return. Clients that know the old one must be told."""
    body = {"cluster_certificate": _text(certificate), "cluster_certificate_key": _text(key)}
    Client(state_directory(directory)).ask("PUT", "/1.0/cluster/certificate", body)
    click.echo("The cluster's certificate was replaced")


def _text(path: Path) -> str:
    """What is in a file; what is no text cannot be PEM, which the daemon says."""
    return path.read_text(errors="replace")
