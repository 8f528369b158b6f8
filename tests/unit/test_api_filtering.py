"""`?filter=` of lists: the clauses that today's client sends, and what is no filter."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdnode.api.filtering import parse
from lxdnode.node.errors import Invalid

SHOWN: dict[str, Any] = {
    "name": "c1",
    "status": "Running",
    "ephemeral": False,
    "profiles": ["default", "web"],
    "config": {"image.os": "busybox", "limits.cpu": "2", "user.x": "a b"},
    "devices": {"eth0": {"type": "nic", "nictype": "bridged"}},
    "status_code": 103,
}


class Shown(msgspec.Struct):
    name: str
    status: str


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("status eq running", True),
        ("status eq stopped", False),
        ("status ne stopped", True),
        ("not status eq stopped", True),
        ("not status ne Running", True),
        ("name eq c1 and status eq Running", True),
        ("name eq c2 and status eq Running", False),
        ("name eq c2 or status eq Running", True),
        # From left to right, without precedence.
        ("name eq c1 or name eq c2 and status eq stopped", False),
        ("ephemeral eq false", True),
        ("status_code eq 103", True),
        ("profiles eq web", True),
        ("profiles eq db", False),
        ("config.image.os eq BusyBox", True),
        ("config.limits.cpu eq 2", True),
        ('config.user.x eq "a b"', True),
        ("devices.eth0.nictype eq bridged", True),
        ("devices.eth1.nictype eq bridged", False),
        ("nothing eq x", False),
        ("nothing ne x", True),
        ("name.deeper eq c1", False),
    ],
)
def test_filters(text: str, expected: bool) -> None:
    assert parse(text)(SHOWN) is expected


def test_structs_are_filtered_by_the_names_that_they_show() -> None:
    matches = parse("status eq running")
    assert [one.name for one in (Shown("a", "Running"), Shown("b", "Stopped")) if matches(one)] == ["a"]


@pytest.mark.parametrize(
    "text", ["status", "status eq", "status is x", "a eq b c eq d", "a eq b and", 'a eq "b', "not"]
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="Invalid filter"):
        parse(text)


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with suppress(Invalid):
        parse(text)(SHOWN)
