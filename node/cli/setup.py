"""`lxd-node init`: sets a new server up, by questions, by defaults (--auto) or from YAML (--preseed)."""

import socket
import sys
from typing import Any

import click
import yaml

from lxdnode.node.cli import preseed
from lxdnode.node.cli.client import ApiError, Client, state_directory
from lxdnode.node.cli.cluster import confirm_certificate, fetch_certificate
from lxdnode.node.cli.lifecycle import directory_option
from lxdnode.node.cli.output import progress
from lxdnode.node.server.keys import with_port

_POOL, _BRIDGE = "default", "lxdbr0"


@click.command()
@directory_option
@click.option("--auto", is_flag=True, help="Ask nothing: a dir pool, a bridge, and the default profile.")
@click.option("--preseed", "from_yaml", is_flag=True, help="Read YAML in LXD's preseed format from standard input.")
@click.option("--address", metavar="HOST[:PORT]", help="With --auto: serve the API over TLS there.")
@click.option("--trust-password", metavar="TEXT", help="With --auto: let clients add themselves with it.")
def init(directory: str | None, auto: bool, from_yaml: bool, address: str | None, trust_password: str | None) -> None:
    """Set up a new server."""
    if auto and from_yaml:
        raise click.UsageError("--auto and --preseed exclude each other")
    if not auto and (address or trust_password):
        raise click.UsageError("--address and --trust-password go with --auto")
    client = Client(state_directory(directory))
    with progress("waiting for the daemon"):
        client.wait_ready(30)
    wanted = _read() if from_yaml else defaults(address, trust_password) if auto else _ask()
    with progress("setting up"):
        preseed.apply(client, wanted)


def defaults(address: str | None = None, password: str | None = None) -> preseed.Preseed:
    """A preseed with a dir pool, a bridge with NAT, and a default profile of both."""
    config = {"core.https_address": address, "core.trust_password": password}
    return {
        "config": {key: value for key, value in config.items() if value},
        "networks": [{"name": _BRIDGE, "type": "bridge", "config": {"ipv4.address": "auto", "ipv6.address": "none"}}],
        "storage_pools": [{"name": _POOL, "driver": "dir"}],
        "profiles": [
            {
                "name": "default",
                "devices": {
                    "root": {"type": "disk", "path": "/", "pool": _POOL},
                    "eth0": {"type": "nic", "nictype": "bridged", "parent": _BRIDGE, "name": "eth0"},
                },
            }
        ],
    }


def _read() -> preseed.Preseed:
    try:
        wanted = yaml.safe_load(sys.stdin)
    except yaml.YAMLError as error:
        raise ApiError(f"the preseed is no YAML: {error}") from error
    if not isinstance(wanted, dict):
        raise ApiError("the preseed must be a map with config, networks, storage_pools, profiles or cluster")
    return wanted


def _ask() -> preseed.Preseed:
    """Asks what LXD's init asks."""
    if not click.confirm("Would you like to use clustering?", default=False):
        address = click.prompt("Address for the API over TLS (empty: unix socket only)", default="", show_default=False)
        password = click.prompt("Trust password", default="", hide_input=True, show_default=False) if address else ""
        return defaults(with_port(address), password)
    name = click.prompt("Name of this member", default=socket.gethostname())
    address = with_port(click.prompt("Address of this member", type=str))
    if not click.confirm("Join an existing cluster?", default=False):
        password = click.prompt("Trust password for joining members", hide_input=True, confirmation_prompt=True)
        return defaults(address, password) | {"cluster": {"enabled": True, "server_name": name}}
    return {"cluster": _ask_join(name, address)}


def _ask_join(name: str, address: str) -> dict[str, Any]:
    target = with_port(click.prompt("Address of a member of the cluster", type=str))
    certificate = fetch_certificate(target)
    confirm_certificate(certificate, None)
    password = click.prompt("Trust password of the cluster", hide_input=True)
    click.confirm("All existing data is lost when joining a cluster, continue?", default=False, abort=True)
    source = click.prompt("Source of the storage pools on this member", default="", show_default=False)
    return {
        "enabled": True,
        "server_name": name,
        "server_address": address,
        "cluster_address": target,
        "cluster_certificate": certificate,
        "cluster_password": password,
        "member_config": [{"entity": "storage-pool", "name": "", "key": "source", "value": source}],
    }
