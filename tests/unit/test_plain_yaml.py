"""YAML of strangers: what is taken, and what would never end."""

import time

import pytest
import yaml

from lxdnode.drivers.config import plain_yaml
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.images import metadata
from lxdnode.node.containers import backup_format
from lxdnode.node.errors import Invalid


def bomb(first: str) -> bytes:
    """Forty lines that stand for a million million maps, under the key `first`."""
    lines = ["a0: &a0 {x: y}"]
    lines += [f"a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}}}" for n in range(1, 40)]
    return "\n".join([*lines, f"{first}: *a39"]).encode()


def test_scalars_are_text_and_a_star_is_one_too() -> None:
    assert plain_yaml.load(b"a: 18.04\nb: '*'\nc: [x, ~]\n") == {"a": "18.04", "b": "*", "c": ["x", "~"]}


def test_aliases_are_refused_wherever_strangers_send_yaml() -> None:
    started = time.monotonic()
    with pytest.raises(yaml.YAMLError, match="aliases are not taken"):
        plain_yaml.load(bomb("x"))
    with pytest.raises(DriverError, match="^Could not parse metadata.yaml: aliases are not taken"):
        metadata.decode(bomb("properties"))
    with pytest.raises(Invalid, match="^Could not parse the backup's backup.yaml: aliases are not taken"):
        backup_format.read_description(bomb("container"))
    assert time.monotonic() - started < 1
