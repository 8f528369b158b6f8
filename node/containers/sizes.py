"""Instance types: names for a number of processors and an amount of memory (spec/containers.md 2).

Owns the form `cN-mN`; the named types of clouds come from a table on the internet, which this server does not fetch."""

import re
from math import ceil

from lxdnode.node.errors import Invalid

_PAIR = re.compile(r"(?:c(?P<cpu>\d+(?:\.\d+)?))?-?(?:m(?P<memory>\d+(?:\.\d+)?))?")


def limits(instance_type: str) -> dict[str, str]:
    """The limits of `c2-m4`, `c0.5-m0.2`, `c1` or `m8` (processors, GB). Invalid with LXD's words."""
    match = _PAIR.fullmatch(instance_type)
    if match is None or not (match["cpu"] or match["memory"]):
        raise Invalid(f"Provided instance type doesn't exist: {instance_type}")
    config: dict[str, str] = {}
    if match["cpu"]:
        cpus = float(match["cpu"])
        whole = max(ceil(cpus), 1)
        config["limits.cpu"] = str(whole)
        if cpus < whole:
            config["limits.cpu.allowance"] = f"{int(cpus / whole * 100)}%"
    if match["memory"]:
        config["limits.memory"] = f"{int(float(match['memory']) * 1024)}MB"
    return config
