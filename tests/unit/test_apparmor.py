"""AppArmor profiles: their names, what stands in them, and that the parser takes each form. No kernel is asked."""

import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host import apparmor
from lxdnode.drivers.host.apparmor import Confinement, Kernel, names, render

NAMES = names("c1", Path("/var/lib/lxd-node"))
STACKING = Kernel(stacking=True, cgroup_namespaces=True)
OLD = Kernel(stacking=False, cgroup_namespaces=False)


def rules(kernel: Kernel = STACKING, **fields: object) -> str:
    """The profile of a container."""
    return render(Confinement("c1", **fields), NAMES, kernel)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kernel", "privileged", "nesting"), list(product([STACKING, OLD], [False, True], [False, True]))
)
async def test_the_parser_takes_every_form(kernel: Kernel, privileged: bool, nesting: bool) -> None:
    raw = "deny /root/secret r,\nmount fstype=nfs,"
    await apparmor.parse(rules(kernel, privileged=privileged, nesting=nesting, raw=raw))


async def test_a_line_that_does_not_parse_is_refused_with_the_parsers_words() -> None:
    with pytest.raises(DriverError, match="(?s)The AppArmor profile is refused: .*syntax error"):
        await apparmor.parse(rules(raw="allow everything"))


def test_raw_lines_end_the_profile() -> None:
    assert rules(raw="deny /a r,\ndeny /b r,").endswith("  deny /a r,\n  deny /b r,\n}\n")


def test_only_a_privileged_container_without_nesting_is_told_what_to_mount() -> None:
    assert "deny mount fstype=proc" in rules(privileged=True)
    assert "deny mount" not in rules(privileged=True, nesting=True)
    assert "deny mount" not in rules()


def test_policy_of_its_own_takes_a_kernel_that_stacks() -> None:
    assert 'change_profile -> ":lxd-c1_<var-lib-lxd-node>://*",' in rules()
    assert "change_profile" not in rules(OLD)
    assert "deny /{,**/}sys/kernel/security/** wkl," in rules(OLD)


def test_names_are_those_of_the_field() -> None:
    assert NAMES.profile == "lxd-c1_</var/lib/lxd-node>"
    assert NAMES.namespace == "lxd-c1_<var-lib-lxd-node>"


@pytest.mark.parametrize("state", ["/" + "x" * 245, "/var/lib/a b", "/var/lib/[ab]*", "/var/lib/a:b"])
def test_a_directory_that_no_rule_can_name_is_hashed(state: str) -> None:
    named = names("c1", Path(state))
    assert re.fullmatch(r"lxd-c1_<[0-9a-f]{64}>", named.profile)
    assert named.namespace == named.profile


def as_regex(pattern: str) -> str:
    """A pattern of AppArmor, as far as `_other_than` uses them."""
    signs = {"{": "(", "}": ")", ",": "|", "?": "[^/]", "*": "[^/]*"}
    return "".join(signs.get(sign, sign) for sign in pattern)


@given(st.text("acdhnopt", max_size=6))
@example("proc")
@example("pro")
@example("procs")
@example("host")
@example("hostname")
@example("hos")
def test_all_names_but_some_are_matched(name: str) -> None:
    pattern = apparmor._other_than("proc", "host*")
    expected = bool(name) and name != "proc" and not name.startswith("host")
    assert bool(re.fullmatch(as_regex(pattern), name)) == expected
