"""The table of extensions: LXD's names in LXD's order, honest states; and the routes that name them."""

from lxdnode.api import routes
from lxdnode.api.extensions import ADVERTISED, EXTENSIONS, LEVEL
from lxdnode.api.openapi import describe
from lxdnode.api.route import declared

ROUTES = [one for module in routes.MODULES for one in declared(module)]


def test_the_level_has_93_names_and_each_once() -> None:
    names = [one.name for one in LEVEL]
    assert len(names) == len(set(names)) == 93
    assert (names[0], names[76], names[-1]) == ("storage_zfs_remove_snapshots", "clustering", "pprof_http")
    # The names that LXD advertises, where its document says something else.
    assert {"resource_limits", "macaroon_authentication", "unix_priv_drop"} < set(names)


def test_only_what_is_served_is_advertised() -> None:
    assert [one.name for one in EXTENSIONS if one.state != "absent"] == ADVERTISED
    assert all(bool(one.gaps) == (one.state == "part") for one in EXTENSIONS)


def test_routes_name_extensions_that_exist() -> None:
    known = {one.name for one in EXTENSIONS}
    assert {one.extension for one in ROUTES if one.extension} <= known


def test_no_route_is_declared_twice() -> None:
    keys = [(one.method, one.path) for one in ROUTES]
    assert len(keys) == len(set(keys))


def test_every_route_says_what_it_does() -> None:
    assert [one.path for one in ROUTES if not one.handler.__doc__] == []


def test_the_description_has_every_path_and_resolves_its_references() -> None:
    described = describe(ROUTES, "1.0")
    assert described["paths"]["/1.0/profiles/{name}"]["put"]["requestBody"]
    assert described["paths"]["/1.0/operations/{id}/wait"]["get"]["parameters"][0]["name"] == "id"
    named = set(described["components"]["schemas"])
    assert {reference.rpartition("/")[2] for reference in _references(described)} <= named


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in _references(item)]
    return [found for item in value for found in _references(item)] if isinstance(value, list) else []
