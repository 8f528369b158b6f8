"""The API's description in OpenAPI 3.0, made from the declarations of the routes.

Owns the translation; refuses to describe anything by hand."""

import re
from collections.abc import Sequence
from inspect import getdoc
from typing import Any

import msgspec

from lxdnode.api.app import ANY, METHODS
from lxdnode.api.route import Route

_VARIABLE = re.compile(r"<(?:path:)?([a-z_]+)>")
_REFERENCE = "#/components/schemas/{name}"


def describe(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The document, with a schema for each struct that a route declares as body or answer."""
    types = [kind for one in routes for kind in (one.body, one.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    named = iter(schemas)
    paths: dict[str, Any] = {}
    for one in routes:
        body = next(named) if one.body is not None else None
        answer = next(named) if one.answer is not None else None
        methods = METHODS if one.method == ANY else (one.method,)
        for method in methods:
            paths.setdefault(_VARIABLE.sub(r"{\1}", one.path), {})[method.lower()] = _operation(one, body, answer)
    return {
        "openapi": "3.0.3",
        "info": {"title": "lxd-node", "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            # OpenAPI 3.0 has no word for client certificates; 3.1 has.
            "securitySchemes": {"certificate": {"type": "http", "scheme": "mutual-tls"}},
        },
    }


def _operation(route: Route, body: Any, answer: Any) -> dict[str, Any]:
    names = _VARIABLE.findall(route.path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    if route.target:
        parameters.append({"name": "target", "in": "query", "required": False, "schema": {"type": "string"}})
    described: dict[str, Any] = {
        "summary": getdoc(route.handler) or "",
        "parameters": parameters,
        "security": [] if route.guest else [{"certificate": []}],
        "responses": {"default": {"description": "LXD's envelope", "content": _content(answer)}},
    }
    if route.extension is not None:
        described["x-lxd-extension"] = route.extension
    if body is not None:
        described["requestBody"] = {"content": {"application/json": {"schema": body}}}
    return described


def _content(answer: Any) -> dict[str, Any]:
    metadata = {} if answer is None else {"properties": {"metadata": answer}}
    return {"application/json": {"schema": {"type": "object", **metadata}}}
