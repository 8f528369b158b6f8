"""What each path and method answers before any handler runs, and how bodies and errors look (spec/rest.md 1)."""

from pathlib import Path

import h11
import msgspec
import pytest
from quart.wrappers import Response

from lxdnode.api import responses
from lxdnode.api.route import Call, route
from lxdnode.node.errors import AlreadyExists, NodeError, NotFound, TooLarge
from lxdnode.node.server import rules
from tests.harness.api import Site, alone, routes_of


class Thing(msgspec.Struct):
    name: str = ""
    config: dict[str, str] = {}
    parts: list["Thing"] = []


@route("POST", "/1.0/things", body=Thing)
async def make_thing(call: Call) -> Response:
    return responses.sync(await call.json(Thing))


@route("GET", "/1.0/things/<name>")
async def show_thing(call: Call) -> Response:
    failures: dict[str, Exception] = {
        "missing": NotFound(),
        "taken": AlreadyExists(),
        "large": TooLarge("too large"),
        "failed": NodeError("it failed"),
        "bug": KeyError("oh"),
        "group": ExceptionGroup("nursery", [NotFound("in a nursery")]),
    }
    if failure := failures.get(call.arguments["name"]):
        raise failure
    return responses.sync({"query": call.query, "name": call.arguments["name"]}, etag="abc")


@route("GET", "/1.0/trees/<path:name>")
async def show_tree(call: Call) -> Response:
    call.match("abc")
    return responses.sync(call.arguments["name"])


@route("PUT", "/1.0/things/<name>")
async def rename_thing(call: Call) -> Response:
    return responses.created("/1.0/things/" + call.query.get("new", ""))


@route("PUT", "/1.0/views/<name>")
async def view_and_change(call: Call) -> Response:
    await call.view()
    if call.arguments["name"] == "unknown":
        raise NotFound
    return responses.empty()


ROUTES = routes_of(a=make_thing, b=show_thing, c=show_tree, d=rename_thing)
NO_ANSWER = {"status": "", "status_code": 0, "operation": "", "metadata": None}
NOT_FOUND = NO_ANSWER | {"error": "not found", "error_code": 404, "type": "error"}


async def test_envelopes_have_exactly_the_fields_of_lxd(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        shown = await site.ask("GET", "/1.0/things/x")
        assert shown.json == {
            "type": "sync",
            "status": "Success",
            "status_code": 200,
            "operation": "",
            "error_code": 0,
            "error": "",
            "metadata": {"query": {}, "name": "x"},
        }
        assert shown.headers["content-type"] == "application/json"
        assert shown.headers["etag"] == "abc"
        made = await site.ask("PUT", "/1.0/things/x?new=y")
        assert (made.status, made.headers["location"], made.json["status_code"]) == (201, "/1.0/things/y", 200)
        assert made.json["metadata"] is None


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("missing", 404, "not found"),
        ("taken", 409, "already exists"),
        ("large", 413, "too large"),
        ("failed", 500, "it failed"),
        ("bug", 500, "'oh'"),
        ("group", 404, "in a nursery"),
    ],
)
async def test_errors_are_json_with_the_code_of_their_kind(tmp_path: Path, name: str, status: int, words: str) -> None:
    async with alone(tmp_path, ROUTES) as site:
        answer = await site.ask("GET", f"/1.0/things/{name}")
        assert answer.status == status
        assert answer.json == NO_ANSWER | {"error": words, "error_code": status, "type": "error"}
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/1.0/", 404, "not found"),
        ("GET", "/1.0/nothing", 404, "not found"),
        ("GET", "/1.0/things/a/b", 404, "not found"),
        ("GET", "/1.0/things/a%2Fb", 404, "not found"),
        ("GET", "/1.0/things/", 404, "not found"),
        ("DELETE", "/1.0/things", 501, "not implemented"),
        ("PATCH", "/1.0/things/x", 501, "not implemented"),
        ("TRACE", "/1.0/things", 404, "Method 'TRACE' not found"),
        ("BREW", "/1.0", 404, "Method 'BREW' not found"),
    ],
)
async def test_unknown_paths_and_methods(tmp_path: Path, method: str, path: str, status: int, words: str) -> None:
    async with alone(tmp_path, ROUTES) as site:
        answer = await site.ask(method, path)
        assert (answer.status, answer.json["error"]) == (status, words)


async def test_the_root_answers_every_method_and_everybody(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        stranger = await site.dial()
        for method in ("GET", "PUT", "POST", "DELETE", "PATCH"):
            assert (await site.ask(method, "/")).metadata == ["/1.0"]
            assert (await stranger.ask(method, "/", headers={"X-LXD-authenticated": "true"})).metadata == ["/1.0"]


async def test_trust_comes_before_the_method(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        stranger = await site.dial()
        for method, path in (("GET", "/1.0/things/x"), ("DELETE", "/1.0/things"), ("PUT", "/1.0")):
            answer = await stranger.ask(method, path)
            assert (answer.status, answer.json["error"]) == (403, "not authorized")
        assert (await stranger.ask("GET", "/1.0/nothing")).status == 404
        assert (await stranger.ask("GET", "/1.0")).metadata["auth"] == "untrusted"
        expecting = await stranger.ask("GET", "/1.0", headers={"X-LXD-authenticated": "true"})
        assert expecting.status == 403
        assert (await site.ask("GET", "/1.0", headers={"User-Agent": "lxd-cluster-notifier"})).metadata[
            "auth"
        ] == "untrusted"


async def test_options_answer_everywhere_with_nothing(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        stranger = await site.dial()
        answer = await stranger.ask("OPTIONS", "/1.0/anything", headers={"Origin": "https://example.org"})
        assert (answer.status, answer.body) == (200, b"")
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_null_means_absent_and_unknown_fields_are_ignored(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        body = {"name": None, "config": {"a": None, "b": "1"}, "parts": [{"name": "p", "config": None}], "type": "x"}
        shown = (await site.ask("POST", "/1.0/things", body)).metadata
        part = {"name": "p", "config": {}, "parts": []}
        assert shown == {"name": "", "config": {"a": "", "b": "1"}, "parts": [part]}


@pytest.mark.parametrize("body", [b"", b"{", b'{"name": 1}', b"[]", b'{"config": {"a": {}}}', b"\xff", b"[" * 100_000])
async def test_bodies_that_are_no_such_json_are_refused(tmp_path: Path, body: bytes) -> None:
    async with alone(tmp_path, ROUTES) as site:
        answer = await site.ask("POST", "/1.0/things", body)
        assert (answer.status, answer.json["type"]) == (400, "error")


async def test_large_json_is_decoded_and_too_large_json_refused_unread(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        long = "x" * 2**20
        assert (await site.ask("POST", "/1.0/things", {"name": long})).metadata["name"] == long
        client = await site.connect()
        headers = [("host", "lxd"), ("content-length", str(100 * 2**20))]
        await client.send(h11.Request(method="POST", target="/1.0/things", headers=headers))
        answer = await client.answer()
        assert (answer.status, answer.json["error_code"]) == (413, 413)


async def test_a_body_without_length_is_refused_at_the_limit(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        client = await site.connect()
        headers = [("host", "lxd"), ("transfer-encoding", "chunked")]
        await client.send(h11.Request(method="POST", target="/1.0/things", headers=headers))
        for _ in range(5):
            await client.send(h11.Data(data=b" " * 2**20))
        answer = await client.answer()
        assert (answer.status, answer.json["error_code"]) == (413, 413)


async def test_query_and_form_values_are_one(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        assert (await site.ask("GET", "/1.0/things/x?a=1&a=2&b=")).metadata["query"] == {"a": "1", "b": ""}
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await site.ask("PUT", "/1.0/things/x", b"new=f", form)).headers["location"] == "/1.0/things/f"
        # `curl -d` says so of JSON too.
        assert (await site.ask("POST", "/1.0/things", {"name": "n"}, form)).metadata["name"] == "n"


async def test_names_may_have_slashes_only_where_the_route_says_so(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        assert (await site.ask("GET", "/1.0/trees/a/b%20c")).metadata == "a/b c"
        assert (await site.ask("GET", "/1.0/things/%0a%00")).metadata["name"] == "\n\x00"
        assert (await site.ask("GET", "/1.0/things/%ff")).metadata["name"] == "\ufffd"


async def test_if_match_is_compared_as_text(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        for given, status in ((None, 200), ("", 200), ("abc", 200), ("*", 412), ('"abc"', 412)):
            headers = {} if given is None else {"If-Match": given}
            answer = await site.ask("GET", "/1.0/trees/t", headers=headers)
            assert answer.status == status
        assert answer.json["error"] == 'ETag doesn\'t match: abc vs "abc"'


async def test_an_answer_that_the_cluster_did_not_confirm_says_so(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:

        async def unconfirmed() -> int:
            return 7

        site.node.store.barrier = unconfirmed  # type: ignore[method-assign]
        answer = await site.ask("GET", "/1.0/profiles")
        assert (answer.headers["x-lxd-node-stale"], answer.json["stale"], answer.metadata) == ("7", 7, [])


async def test_a_change_that_the_log_took_is_not_called_stale(tmp_path: Path) -> None:
    async with alone(tmp_path, routes_of(a=view_and_change)) as site:

        async def unconfirmed() -> int:
            return 7

        site.node.store.barrier = unconfirmed  # type: ignore[method-assign]
        done = await site.ask("PUT", "/1.0/views/known")
        assert done.status == 200 and "x-lxd-node-stale" not in done.headers
        refused = await site.ask("PUT", "/1.0/views/unknown")
        assert refused.status == 404 and refused.headers["x-lxd-node-stale"] == "7"


async def test_a_transaction_id_must_be_a_uuid(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        for id, status in (("x", 400), ("b9b2dd2b-9e16-4ad7-a2ee-3f3d6f5e2d3c", 201)):
            headers = {"X-LXD-Node-Transaction": id}
            assert (await site.ask("POST", "/1.0/profiles", {"name": "p"}, headers)).status == status


async def test_cors_headers_follow_the_settings(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        config = {
            "core.https_allowed_origin": "https://a.example",
            "core.https_allowed_methods": "GET, PUT",
            "core.https_allowed_headers": "Content-Type",
            "core.https_allowed_credentials": "true",
        }
        await _set(site, config)
        for answer in (
            await site.ask("GET", "/1.0", headers={"Origin": "https://b.example"}),
            await site.ask("GET", "/1.0/nothing", headers={"Origin": "https://b.example"}),
            await site.ask("OPTIONS", "/x", headers={"Origin": "https://b.example"}),
        ):
            assert answer.headers["access-control-allow-origin"] == "https://a.example"
            assert answer.headers["access-control-allow-methods"] == "GET, PUT"
            assert answer.headers["access-control-allow-headers"] == "Content-Type"
            assert answer.headers["access-control-allow-credentials"] == "true"
        silent = await site.ask("GET", "/1.0")
        assert "access-control-allow-origin" not in silent.headers
        assert silent.headers["access-control-allow-credentials"] == "true"


async def _set(site: Site, config: dict[str, str]) -> None:
    await site.node.store.transact(
        lambda draft: rules.change(draft, site.node.member, config, "", replace=False), author="test", request="TEST"
    )
