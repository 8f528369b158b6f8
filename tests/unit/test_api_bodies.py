"""JSON bodies as Go reads them: null is absent, whatever the shape around it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdnode.api.bodies import Body, ClientGone, decode, form
from lxdnode.node.errors import Invalid, TooLarge


class Inner(msgspec.Struct):
    name: str = ""
    number: int = 0


class Outer(msgspec.Struct):
    text: str = ""
    flag: bool = False
    inner: Inner = msgspec.field(default_factory=Inner)
    maybe: Inner | None = None
    many: list[Inner] = []
    named: dict[str, Inner] = {}
    texts: dict[str, str] = {}
    free: dict[str, Any] = {}
    renamed: str = msgspec.field(default="", name="base-image")


WHOLE = {
    "text": "t",
    "flag": True,
    "inner": {"name": "n", "number": 1},
    "maybe": {"name": "n", "number": 1},
    "many": [{"name": "n", "number": 1}],
    "named": {"a": {"name": "n", "number": 1}},
    "texts": {"a": "b"},
    "free": {"a": [1, "x", {"y": 2}]},
    "base-image": "fp",
}


async def test_whole_bodies() -> None:
    read = await decode(msgspec.json.encode(WHOLE), Outer)
    assert msgspec.to_builtins(read) == WHOLE


@given(st.sets(st.sampled_from(sorted(WHOLE))))
async def test_any_field_may_be_null(nulls: set[str]) -> None:
    body = {name: None if name in nulls else value for name, value in WHOLE.items()}
    absent = {name: value for name, value in WHOLE.items() if name not in nulls}
    assert await decode(msgspec.json.encode(body), Outer) == msgspec.convert(absent, Outer)


async def test_nulls_inside() -> None:
    body = {"many": [{"name": None}], "named": {"a": {"number": None}}, "maybe": {"name": None}, "texts": {"a": None}}
    read = await decode(msgspec.json.encode(body), Outer)
    assert read == Outer(many=[Inner()], named={"a": Inner()}, maybe=Inner(), texts={"a": ""})
    assert (await decode(b'{"free": {"a": null, "b": {"c": null}}}', Outer)).free == {"a": None, "b": {"c": None}}


@pytest.mark.parametrize("body", [b"null", b'{"many": [null]}', b'{"text": null, "flag": 1}', b"", b"{}x"])
async def test_what_does_not_fit_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        await decode(body, Outer)


def test_forms_and_json_are_told_apart() -> None:
    assert form(b'  {"a": 1}') is None
    assert form(b"a=1&a=2&b=%20") == {"a": "1", "b": " "}
    assert form(b"") == {}


def body_of(*chunks: bytes, length: int | None = None, complete: bool = True) -> Body:
    left = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    left.append({"type": "http.request", "body": b"", "more_body": False} if complete else {"type": "http.disconnect"})

    async def receive() -> Any:
        return left.pop(0)

    return Body(receive, length)


async def test_a_body_is_read_once_and_kept() -> None:
    body = body_of(b"ab", b"cd")
    assert await body.read(10) == await body.read(10) == b"abcd"
    assert (body.kept, body.started) == (b"abcd", False)
    assert [chunk async for chunk in body] == [b"abcd"]


async def test_a_stream_can_be_left_in_the_middle() -> None:
    body = body_of(b"ab", b"cd")
    async for chunk in body:
        assert chunk == b"ab"
        break
    assert (body.started, body.kept) == (True, None)


async def test_limits_hold_with_and_without_a_length() -> None:
    with pytest.raises(TooLarge, match="11 bytes"):
        await body_of(length=11).read(10)
    with pytest.raises(TooLarge, match="more than 10"):
        await body_of(b"123456", b"123456").read(10)


async def test_a_body_that_ends_early_is_an_error() -> None:
    with pytest.raises(ClientGone):
        await body_of(b"ab", complete=False).read(10)
