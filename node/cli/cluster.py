"""`lxd-node cluster`: who is in the cluster, how they are, and how to join and leave."""

import socket
import ssl
from collections.abc import Iterator
from typing import Any

import click

from lxdnode.node.cli.client import ApiError, Client, state_directory
from lxdnode.node.cli.lifecycle import directory_option
from lxdnode.node.cli.output import format_option, progress, show
from lxdnode.node.fingerprint import fingerprint_of_pem
from lxdnode.node.server.keys import with_port

_LIST = ("name", "url", "role", "status", "message", "version", "heartbeat_age", "clock_skew")
_STATUS = ("name", "role", "phase", "heartbeat_age", "clock_skew", "applied", "certificate", "version")


@click.group()
def cluster() -> None:
    """List, join and remove the members of the cluster."""


@cluster.command("list")
@directory_option
@format_option
def list_members(directory: str | None, style: str) -> None:
    """List the members."""
    show(_members(Client(state_directory(directory))), _LIST, style)


@cluster.command("show")
@directory_option
@click.argument("name")
@format_option
def show_member(directory: str | None, name: str, style: str) -> None:
    """Show one member."""
    found = [row for row in _members(Client(state_directory(directory))) if row["name"] == name]
    if not found:
        raise ApiError(f"there is no member called {name}; see lxd-node cluster list")
    show(found, _LIST, style)


@cluster.command()
@directory_option
@format_option
def status(directory: str | None, style: str) -> None:
    """Show how the store does: leader, term, what each member has applied, and what needs a hand."""
    answer = Client(state_directory(directory)).ask("GET", "/internal/cluster/status")
    if style == "table":
        store = answer["store"]
        leader, level = answer["leader"] or "(none)", store["level"]
        click.echo(f"leader {leader}, term {store['term']}, index {store['applied']}, level {level}")
    show(answer["members"], _STATUS, style)
    for line in _trouble(answer) if style == "table" else ():
        click.echo(line)


def _trouble(answer: dict[str, Any]) -> Iterator[str]:
    """What needs a hand, a line each."""
    if answer["outdated"]:
        yield answer["outdated"]
    if answer["certificate"] != "valid":
        yield f"the cluster's certificate: {answer['certificate']} (lxd-node cluster certificate)"
    for name, words in answer["wrong_clocks"].items():
        yield f"the clock of {name} is {words} the leader's: set it (chrony, ntpd)"
    for item in answer["unknown"]:
        yield f"unknown data, adopt or remove by hand: {item}"


@cluster.command()
@directory_option
def leader(directory: str | None) -> None:
    """Print the name of the leading member."""
    name = Client(state_directory(directory)).ask("GET", "/internal/cluster/status")["leader"]
    if not name:
        raise ApiError("the cluster has no leader now: a majority of its voters is not reachable")
    click.echo(name)


@cluster.command()
@directory_option
@click.argument("address")
@click.option("--name", help="Name of this member; the host's name without it.")
@click.option("--address", "own", metavar="HOST[:PORT]", help="Own address, if none is set yet.")
@click.option("--password", prompt=True, hide_input=True, help="Trust password of the cluster.")
@click.option("--fingerprint", help="Fingerprint that the cluster's certificate must have; asked without it.")
def join(
    directory: str | None, address: str, name: str | None, own: str | None, password: str, fingerprint: str | None
) -> None:
    """Join the cluster of the member at ADDRESS (host[:port]). A server that is in it already stays as it is."""
    target = with_port(address)
    certificate = fetch_certificate(target)
    confirm_certificate(certificate, fingerprint)
    if _is_in_cluster(directory, certificate):
        click.echo(f"this server is a member of the cluster at {target} already")
        return
    body = {
        "enabled": True,
        "server_name": name or socket.gethostname(),
        "server_address": with_port(own) if own else "",
        "cluster_address": target,
        "cluster_certificate": certificate,
        "cluster_password": password,
        "member_config": [{"entity": "storage-pool", "name": "", "key": "source", "value": ""}],
    }
    with progress("joining"):
        Client(state_directory(directory)).ask("PUT", "/1.0/cluster", body)
    click.echo(f"{body['server_name']} is now a member of the cluster at {target}")


@cluster.command()
@directory_option
@click.argument("name")
@click.option("--force", is_flag=True, help="Remove it though it holds containers or cannot be reached.")
def remove(directory: str | None, name: str, force: bool) -> None:
    """Remove a member from the cluster."""
    with progress("removing"):
        path = f"/1.0/cluster/members/{name}" + ("?force=1" if force else "")
        Client(state_directory(directory)).ask("DELETE", path)
    click.echo(f"{name} was removed")


def _is_in_cluster(directory: str | None, certificate: str) -> bool:
    """Whether this server is in the cluster with that certificate: a join that broke off may have come to its end."""
    state = state_directory(directory)
    if not Client(state).ask("GET", "/1.0/cluster")["enabled"]:
        return False
    own = (state / "cluster.crt").read_text()
    return fingerprint_of_pem(own) == fingerprint_of_pem(certificate)


def fetch_certificate(address: str) -> str:
    """The certificate (PEM) that the server at host:port shows."""
    host, _colon, port = address.rpartition(":")
    try:
        return ssl.get_server_certificate((host.strip("[]"), int(port)), timeout=10)
    except (OSError, ValueError) as error:
        raise ApiError(f"{address} does not answer: {error}") from error


def confirm_certificate(certificate: str, expected: str | None) -> None:
    """Compares the fingerprint with the expected one, or asks the user."""
    shown = fingerprint_of_pem(certificate)
    if expected is None:
        click.confirm(f"Is {shown} the fingerprint of the cluster's certificate?", abort=True)
    elif expected.lower().replace(":", "") != shown:
        raise ApiError(f"the server shows the certificate {shown}, expected {expected}: is this the right address?")


def _members(client: Client) -> list[dict[str, Any]]:
    rows = client.ask("GET", "/1.0/cluster/members?recursion=1")
    return [{"name": row["server_name"], **row} for row in rows]
