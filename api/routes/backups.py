"""/1.0/containers/NAME/backups (spec/rest.md 5): seen on any member, made and sent by the one with the container."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from quart.wrappers import Response

from lxdnode.api.downloads import send_file
from lxdnode.api.rendering import show_backup as show
from lxdnode.api.responses import operation, sync
from lxdnode.api.route import Call, route
from lxdnode.api.routes.containers import find_here, url
from lxdnode.api.types.backups import NEVER, Backup, BackupPost, BackupsPost
from lxdnode.node.containers import backup_rules, rules
from lxdnode.node.containers.records import Backup as Record

_EXTENSION = "container_backup"
_PATH = "/1.0/containers/<name>/backups"


@route("GET", _PATH, extension=_EXTENSION, answer=list[Backup])
async def list_backups(call: Call) -> Response:
    """URLs, or objects with recursion, oldest first."""
    view, name = await call.view(), call.arguments["name"]
    found = [backup for _, backup in backup_rules.all_of(view, rules.find(view, name))]
    if call.recursion:
        return sync([show(name, backup) for backup in found])
    return sync([f"{url(name)}/backups/{quote(backup.name, safe='')}" for backup in found])


@route("POST", _PATH, extension=_EXTENSION, body=BackupsPost)
async def create_backup(call: Call) -> Response:
    """Makes a backup of a container, running or not."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    body = await call.json(BackupsPost)
    name = body.name or backup_rules.next_name(call.node.store.view(), here.id)
    backup_rules.check_name(name)
    backup = Record(
        name=name,
        created_at=datetime.now(UTC).timestamp(),
        expires_at=(body.expiry or body.expires_at or NEVER).timestamp(),
        container_only=body.container_only or body.instance_only,
        optimized_storage=body.optimized_storage,
    )
    resources = {"containers": [url(here.name)], "backups": [f"/1.0/backups/{quote(backup.name, safe='')}"]}
    create = call.node.containers.backups.create
    return _begin(call, "Backing up container", resources, lambda _op: create(here.id, backup, call.caller.author))


@route("GET", f"{_PATH}/<backup>", extension=_EXTENSION, answer=Backup)
async def show_backup(call: Call) -> Response:
    """One backup."""
    view, name = await call.view(), call.arguments["name"]
    return sync(show(name, backup_rules.find(view, rules.find(view, name), call.arguments["backup"])[1]))


@route("POST", f"{_PATH}/<backup>", extension=_EXTENSION, body=BackupPost)
async def rename_backup(call: Call) -> Response:
    """Gives a backup another name."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    id, _ = backup_rules.find(call.node.store.view(), here.id, call.arguments["backup"])
    body = await call.json(BackupPost)
    backup_rules.check_name(body.name)
    rename = call.node.containers.backups.rename
    return _begin(
        call,
        "Renaming container backup",
        {"containers": [url(here.name)]},
        lambda _op: rename(here.id, id, body.name, call.caller.author),
    )


@route("DELETE", f"{_PATH}/<backup>", extension=_EXTENSION)
async def delete_backup(call: Call) -> Response:
    """Removes a backup."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    id, _ = backup_rules.find(call.node.store.view(), here.id, call.arguments["backup"])
    delete = call.node.containers.backups.delete
    return _begin(
        call,
        "Removing container backup",
        {"container": [url(here.name)]},
        lambda _op: delete(here.id, id, call.caller.author),
    )


@route("GET", f"{_PATH}/<backup>/export", extension=_EXTENSION)
async def export_backup(call: Call) -> Response:
    """The tarball."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    id, _ = backup_rules.find(call.node.store.view(), here.id, call.arguments["backup"])
    return await send_file(call.node.containers.backups.path(id), {}, call.headers.get("Range", ""))


def _begin(
    call: Call, description: str, resources: dict[str, list[str]], run: Callable[[Any], Awaitable[None]]
) -> Response:
    return operation(
        call.node.operations.create(
            kind="task", description=description, resources=resources, run=run, author=call.caller.author
        )
    )
