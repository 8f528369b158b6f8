"""The routes of the API, a module per URL subtree: the owner of a noun adds its module here."""

from lxdnode.api.routes import (
    aliases,
    certificates,
    cluster,
    commands,
    containers,
    events,
    files,
    images,
    internal,
    networks,
    operations,
    profiles,
    server,
    snapshots,
    storage,
    volumes,
)

MODULES = (
    server,
    certificates,
    profiles,
    containers,
    snapshots,
    commands,
    files,
    images,
    aliases,
    networks,
    storage,
    volumes,
    cluster,
    internal,
    operations,
    events,
)
