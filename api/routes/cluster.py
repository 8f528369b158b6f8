"""/1.0/cluster: the cluster and its members (spec/clustering.md)."""

from urllib.parse import quote

from quart.wrappers import Response

from lxdnode.api.etag import etag_of
from lxdnode.api.responses import empty, operation, sync
from lxdnode.api.route import Call, route
from lxdnode.api.types.cluster import (
    Cluster,
    ClusterCertificatePut,
    ClusterMember,
    ClusterPut,
    MemberConfig,
    MemberPost,
)
from lxdnode.node.cluster import rules
from lxdnode.node.cluster.description import condition, program
from lxdnode.node.cluster.join import Wanted
from lxdnode.node.cluster.records import STANDALONE, Member
from lxdnode.node.documents import View
from lxdnode.node.errors import Invalid
from lxdnode.node.keypair import check


@route("GET", "/1.0/cluster", extension="clustering", answer=Cluster)
async def show_cluster(call: Call) -> Response:
    """Whether this server is in a cluster, under which name, and which keys a joining member must give values for."""
    view = await call.view()
    enabled = rules.is_clustered(view)
    name = rules.name_of(view, call.node.member) if enabled else ""
    shown = Cluster(name, enabled, _member_config(call, view))
    return sync(shown, etag=etag_of(shown))


def _member_config(call: Call, view: View) -> list[MemberConfig]:
    words = {"storage-pool": "storage pool", "network": "network"}
    return [
        MemberConfig(entity, name, key, "", f'"{key}" property for {words[entity]} "{name}"')
        for entity, name, key in call.node.cluster.member_keys(view)
    ]


@route("PUT", "/1.0/cluster", extension="clustering_join", body=ClusterPut)
async def change_cluster(call: Call) -> Response:
    """Makes this server the first member of a cluster, lets it join one, or takes it out of its cluster."""
    body = await call.json(ClusterPut)
    cluster, author = call.node.cluster, call.caller.author
    if body.enabled and not body.server_name:
        raise Invalid("ServerName is required when enabling clustering")
    if not body.enabled and body.server_name:
        raise Invalid("ServerName must be empty when disabling clustering")
    if not body.enabled:
        await cluster.leave()
        return empty()
    if not body.cluster_address:
        return operation(cluster.bootstrap(body.server_name, author))
    config = tuple((one.entity, one.name, one.key, one.value) for one in body.member_config)
    wanted = Wanted(
        name=body.server_name,
        address=body.server_address,
        cluster_address=body.cluster_address,
        cluster_certificate=body.cluster_certificate,
        password=body.cluster_password,
        member_config=config,
    )
    return operation(await cluster.join(wanted, author))


@route("PUT", "/1.0/cluster/certificate", extension="clustering_update_cert", body=ClusterCertificatePut)
async def replace_certificate(call: Call) -> Response:
    """Has all servers of the cluster show another certificate (PEM, may be a chain) with its key (PEM)."""
    body = await call.json(ClusterCertificatePut)
    pair = check(body.cluster_certificate, body.cluster_certificate_key)
    await call.node.endpoints.replace_shared(pair, call.caller.author, call.request)
    return empty()


@route("GET", "/1.0/cluster/members", extension="clustering", answer=list[ClusterMember])
async def list_members(call: Call) -> Response:
    """URLs, or objects with recursion; by number."""
    view = await call.view()
    members = rules.members(view)
    if call.recursion:
        return sync([_render(call, view, member) for member in members])
    return sync([f"/1.0/cluster/members/{quote(member.name, safe='')}" for member in members])


@route("GET", "/1.0/cluster/members/<name>", extension="clustering", answer=ClusterMember)
async def show_member(call: Call) -> Response:
    """One member."""
    view = await call.view()
    shown = _render(call, view, rules.named(view, call.arguments["name"]))
    return sync(shown, etag=etag_of(shown))


@route("POST", "/1.0/cluster/members/<name>", extension="clustering", body=MemberPost)
async def rename_member(call: Call) -> Response:
    """Gives a member another name."""
    body = await call.json(MemberPost)
    await call.transact(lambda draft: rules.rename(draft, call.arguments["name"], body.server_name))
    return empty()


@route("DELETE", "/1.0/cluster/members/<name>", extension="clustering")
async def remove_member(call: Call) -> Response:
    """Takes a member out of the cluster; `?force=1` also when it holds containers or cannot be reached."""
    force = call.query.get("force") == "1"
    await call.node.cluster.remove(call.arguments["name"], force, call.caller.author)
    return empty()


def _render(call: Call, view: View, member: Member) -> ClusterMember:
    node = call.node
    runs = program(member, node.log.reports())
    threshold = node.settings.number("cluster.offline_threshold")
    known = condition(view, member, runs, node.log.liveness(), threshold)
    skew = node.log.skews().get(member.number)
    return ClusterMember(
        server_name=member.name,
        url=f"https://{member.address or '0.0.0.0'}",
        database=member.voter and member.name != STANDALONE,
        status=known.status,
        message=known.message,
        role=node.cluster.role(member),
        version=runs.version,
        heartbeat_age=None if known.age == float("inf") else round(known.age, 1),
        clock_skew=None if skew is None else round(skew, 3) + 0.0,  # never -0.0
    )
