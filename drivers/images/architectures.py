"""The processor architectures that images and containers name, and the numbers that LXD gives them."""

import platform

_NUMBERS = {
    "i686": 1, "x86_64": 2, "armv7l": 3, "aarch64": 4, "ppc": 5, "ppc64": 6, "ppc64le": 7, "s390x": 8,
    "mips": 9, "mips64": 10,
}  # fmt: skip
_ALIASES = {
    "i386": "i686", "i586": "i686", "amd64": "x86_64", "arm": "armv7l", "armel": "armv7l", "armhf": "armv7l",
    "arm64": "aarch64", "powerpc": "ppc", "powerpc64": "ppc64", "ppc64el": "ppc64le", "mipsel": "mips",
    "mips64el": "mips64",
}  # fmt: skip
_ALSO_RUNS = {"x86_64": ["i686"], "aarch64": ["armv7l"], "ppc64": ["ppc"]}
"""32-bit architectures that a 64-bit kernel runs as well."""


def canonical(name: str) -> str:
    """The one name of an architecture, also from an alias such as `amd64`. ValueError when it is not known."""
    known = _ALIASES.get(name, name)
    if known not in _NUMBERS:
        raise ValueError(f"Architecture isn't supported: {name}")
    return known


def number(name: str) -> int:
    """LXD's number of an architecture, which ETags and requests for images carry."""
    return _NUMBERS[canonical(name)]


def named(number: int) -> str:
    """The architecture of one of LXD's numbers, "" for one that is not known."""
    return next((name for name, known in _NUMBERS.items() if known == number), "")


def host_architectures() -> list[str]:
    """The architectures that this host runs, its own first."""
    own = canonical(platform.machine())
    return [own, *_ALSO_RUNS.get(own, [])]
