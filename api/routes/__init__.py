"""The routes of the API, a module per URL subtree: the owner of a noun adds its module here."""

from lxdnode.api.routes import (
    certificates,
    cluster,
    commands,
    containers,
    events,
    files,
    internal,
    operations,
    profiles,
    server,
)

MODULES = (server, certificates, profiles, containers, commands, files, cluster, internal, operations, events)
