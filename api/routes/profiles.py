"""/1.0/profiles (spec/rest.md 8)."""

from collections.abc import Callable
from urllib.parse import quote

import msgspec
from quart.wrappers import Response

from lxdnode.api.etag import etag_of
from lxdnode.api.responses import created, empty, sync
from lxdnode.api.route import Call, route
from lxdnode.api.types.profiles import Profile, ProfilePost, ProfilePut, ProfilesPost
from lxdnode.node import references
from lxdnode.node.containers.dependence import check_root_disks
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import NotFound
from lxdnode.node.profiles import rules
from lxdnode.node.profiles.records import PROFILES, reference
from lxdnode.node.profiles.records import Profile as Record

Fields = tuple[str, dict[str, str], dict[str, dict[str, str]]]
Content = Callable[[Record, ProfilePut], Fields]
"""From a profile and a request: the new (description, config, devices)."""


@route("GET", "/1.0/profiles", answer=list[Profile])
async def list_profiles(call: Call) -> Response:
    """URLs, or objects with recursion; sorted by name."""
    view = await call.view()
    found = sorted(view.all(PROFILES), key=lambda item: item[1].name)
    if call.recursion:
        return sync([_render(view, id, record) for id, record in found])
    return sync([_url(record.name) for _id, record in found])


@route("POST", "/1.0/profiles", body=ProfilesPost)
async def create_profile(call: Call) -> Response:
    """Makes a profile."""
    body = await call.json(ProfilesPost)
    record = Record(name=body.name, description=body.description, config=body.config, devices=body.devices)
    await call.transact(lambda draft: rules.create(draft, record))
    return created(_url(body.name))


@route("GET", "/1.0/profiles/<name>", answer=Profile)
async def show_profile(call: Call) -> Response:
    """One profile, with its ETag."""
    view = await call.view()
    id, record = rules.find(view, call.arguments["name"])
    return sync(_render(view, id, record), etag=_etag(record))


@route("PUT", "/1.0/profiles/<name>", body=ProfilePut)
async def replace_profile(call: Call) -> Response:
    """Replaces description, config and devices; an absent one becomes empty."""
    return await _change(call, lambda record, body: (body.description or "", body.config or {}, body.devices or {}))


@route("PATCH", "/1.0/profiles/<name>", extension="patch", body=ProfilePut)
async def patch_profile(call: Call) -> Response:
    """Lays config over by key and devices by name; what is absent stays."""
    return await _change(call, _merged)


@route("POST", "/1.0/profiles/<name>", body=ProfilePost)
async def rename_profile(call: Call) -> Response:
    """Gives the profile another name."""
    body = await call.json(ProfilePost)
    await call.transact(lambda draft: rules.rename(draft, call.arguments["name"], body.name))
    return created(_url(body.name))


@route("DELETE", "/1.0/profiles/<name>")
async def delete_profile(call: Call) -> Response:
    """Deletes a profile that nobody uses."""
    await call.transact(lambda draft: rules.remove(draft, call.arguments["name"]))
    return empty()


def _merged(record: Record, body: ProfilePut) -> Fields:
    description = record.description if body.description is None else body.description
    return description, record.config | (body.config or {}), record.devices | (body.devices or {})


async def _change(call: Call, content: Content) -> Response:
    """Writes what `content(record, body)` gives: (description, config, devices)."""
    name = call.arguments["name"]
    await call.view()
    _check_match(call, call.node.store.view(), name)
    body = await call.json(ProfilePut)

    def change(draft: Draft) -> str:
        record = _check_match(call, draft, name)
        id = rules.replace(draft, name, *content(record, body))
        check_root_disks(draft, id)
        return id

    id = await call.transact(change)
    await call.node.containers.settle(id)
    return empty()


def _check_match(call: Call, view: View, name: str) -> Record:
    """The profile, which must exist and be as the client read it. LXD 3.3 answers 500 when it does not, later ones 404:
    clients that look at the code get the one that is right."""
    try:
        _id, record = rules.find(view, name)
    except NotFound:
        raise NotFound(f"Failed to retrieve profile='{name}': not found") from None
    call.match(_etag(record))
    return record


def _etag(record: Record) -> str:
    return etag_of([record.config, record.description, record.devices])


def _url(name: str) -> str:
    return f"/1.0/profiles/{quote(name, safe='')}"


def _render(view: View, id: str, record: Record) -> Profile:
    used_by = references.urls(view, view.users(reference(id)), ("container",))
    return Profile(used_by=used_by, **msgspec.structs.asdict(record))
