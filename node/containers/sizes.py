"""Instance types: names for a number of processors and an amount of memory (spec/containers.md 2).

Owns the form `cN-mN` and a packaged table of clouds' types; refuses to fetch LXD's longer one from the internet, since
what a request means must not depend on what another server says today."""

import re
from functools import cache
from importlib.resources import files
from math import ceil
from typing import Any

import yaml

from lxdnode.node.errors import Invalid

_PART = re.compile(r"([cm])(\d+(?:\.\d+)?)")


def limits(instance_type: str) -> dict[str, str]:
    """The limits of `c2-m4` (or `m4-c2`), `c0.5-m0.2`, `c1` or `m8` (processors, GB), `t2.micro` or `aws:t2.micro`.
    Invalid with LXD's words."""
    matches = [_PART.fullmatch(part) for part in instance_type.split("-")]
    if all(matches):
        found = {match[1]: float(match[2]) for match in matches if match}
        return _limits(found.get("c", 0), found.get("m", 0))
    known = _find(instance_type)
    return _limits(float(known.get("cpu", 0)), float(known.get("mem", 0)))


def _limits(cpus: float, gigabytes: float) -> dict[str, str]:
    config: dict[str, str] = {}
    if cpus:
        whole = max(ceil(cpus), 1)
        config["limits.cpu"] = str(whole)
        if cpus < whole:
            config["limits.cpu.allowance"] = f"{int(cpus / whole * 100)}%"
    if gigabytes:
        config["limits.memory"] = f"{int(gigabytes * 1024)}MB"
    return config


def _find(instance_type: str) -> dict[str, Any]:
    cloud, colon, name = instance_type.rpartition(":")
    if ":" in cloud or (colon and not (cloud and name)):
        raise Invalid(f"Bad instance type: {instance_type}")
    found = [types[name] for source, types in _table().items() if name in types and cloud in ("", source)]
    if not found:
        raise Invalid(f"Provided instance type doesn't exist: {instance_type}")
    if len(found) > 1:
        raise Invalid(f"Ambiguous instance type provided: {instance_type}")
    return found[0]


@cache
def _table() -> dict[str, dict[str, dict[str, Any]]]:
    """cloud -> type -> {cpu, mem (GB)}."""
    text = (files("lxdnode.node.containers") / "instance-types.yaml").read_text()
    table: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(text)
    return table
