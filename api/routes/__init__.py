"""The routes of the API, a module per URL subtree: the owner of a noun adds its module here."""

from lxdnode.api.routes import certificates, cluster, events, internal, operations, profiles, server

MODULES = (server, certificates, profiles, cluster, internal, operations, events)
