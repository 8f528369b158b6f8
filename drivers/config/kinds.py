"""The kinds of values that configuration keys take: a check each, and a reader where code needs the value.

Owns LXD's words for a wrong value (spec/config-keys.md 1); refuses to know any key. An empty value always
passes and means "unset" to the code that reads it."""

import ipaddress
import re
from collections.abc import Callable

Check = Callable[[str], None]

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_DIGITS = re.compile(r"(\d+)(.*)", re.DOTALL)
_INTEGER = re.compile(r"[+-]?\d+")
_INT64 = 1 << 63
_PREFIXES = "kMGTPE"
_BYTES = (
    {"": 1, "B": 1, " bytes": 1}
    | {f"{prefix}B": 1000 ** (power + 1) for power, prefix in enumerate(_PREFIXES)}
    | {f"{prefix}iB": 1024 ** (power + 1) for power, prefix in enumerate("KMGTPE")}
)
_BITS = (
    {"": 1, "bit": 1}
    | {f"{prefix}bit": 1000 ** (power + 1) for power, prefix in enumerate(_PREFIXES)}
    | {f"{prefix}ibit": 1024 ** (power + 1) for power, prefix in enumerate("KMGTPE")}
)


def is_true(value: str | None) -> bool:
    """Whether a boolean key is on; unset is off."""
    return (value or "").lower() in _TRUE


def is_false(value: str | None) -> bool:
    """Whether a boolean key was explicitly turned off; unset is not."""
    return (value or "").lower() in _FALSE


def parse_integer(value: str) -> int:
    """A signed 64-bit integer in base 10; "" is 0. ValueError with LXD's words."""
    if value == "":
        return 0
    if not _INTEGER.fullmatch(value) or not -_INT64 <= int(value) < _INT64:
        raise ValueError(f"Invalid value for an integer: {value}")
    return int(value)


def parse_size(value: str) -> int:
    """Bytes of a size such as `10GB` (1000-multiples) or `10GiB` (1024-multiples); "" is 0."""
    return _parse_scaled(value, _BYTES, lambda suffix: f"Invalid value: {value}")


def show_size(count: int) -> str:
    """Bytes for people, as LXD writes them: `512B`, `1.20GB` (1000-multiples)."""
    if count < 1000:
        return f"{count}B"
    value, units = count / 1000, iter(("kB", "MB", "GB", "TB", "PB", "EB"))
    unit = next(units)
    while value >= 1000 and unit != "EB":
        value, unit = value / 1000, next(units)
    return f"{value:.2f}{unit}"


def parse_bits(value: str) -> int:
    """Bits per second of a rate such as `10Mbit` or `10Mibit`; "" is 0."""
    return _parse_scaled(value, _BITS, lambda suffix: f"Unsupported suffix: {suffix}")


def _parse_scaled(value: str, units: dict[str, int], unsupported: Callable[[str], str]) -> int:
    if value == "":
        return 0
    match = _DIGITS.fullmatch(value)
    if match is None:
        raise ValueError(f"Invalid value: {value}")
    digits, suffix = match.groups()
    if suffix not in units:
        raise ValueError(unsupported(suffix))
    number = int(digits) * units[suffix]
    if number >= _INT64:
        raise ValueError(f"Invalid integer: {value}")
    return number


def anything(value: str) -> None:
    """Every text."""


def boolean(value: str) -> None:
    """true, false, yes, no, 1, 0, on, off in any case."""
    if value and value.lower() not in _TRUE | _FALSE:
        raise ValueError(f"Invalid value for a boolean: {value}")


def integer(value: str) -> None:
    """A signed 64-bit integer."""
    parse_integer(value)


def uint32(value: str) -> None:
    """An integer of 0 to 4294967295."""
    if value and (not value.isascii() or not value.isdigit()):
        raise ValueError(f"Invalid value for uint32: {value}: invalid syntax")
    if value and int(value) >= 1 << 32:
        raise ValueError(f"Invalid value for uint32: {value}: value out of range")


def priority(value: str) -> None:
    """An integer of 0 to 10."""
    if value == "":
        return
    if not 0 <= parse_integer(value) <= 10:
        raise ValueError(f"Invalid value for a limit '{value}'. Must be between 0 and 10.")


def size(value: str) -> None:
    """Bytes, see `parse_size`."""
    parse_size(value)


def bits(value: str) -> None:
    """Bits per second, see `parse_bits`."""
    parse_bits(value)


def memory(value: str) -> None:
    """A size, or a whole percentage of the host's memory."""
    if value.endswith("%"):
        parse_integer(value[:-1])
    else:
        parse_size(value)


def cpus(value: str) -> None:
    """A number of CPUs, or a list of them: `2`, `0-3`, `0,2`, `1-1`."""
    if value and not all(map(_is_cpus, value.split(","))):
        raise ValueError(f"Invalid CPU limit syntax: {value}")


def _is_cpus(part: str) -> bool:
    match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part)
    return match is not None and int(match[1]) <= int(match[2] or match[1])


def one_of(*choices: str) -> Check:
    """A check for a closed list of words, case-sensitive."""

    def check(value: str) -> None:
        if value and value not in choices:
            raise ValueError(f"Invalid value: {value} (not one of [{' '.join(choices)}])")

    return check


def port(value: str) -> None:
    """A port of 1 to 65535."""
    if value and not (value.isascii() and value.isdigit() and 1 <= int(value) <= 65535):
        raise ValueError(f"Invalid port number: {value}")


def interface_name(value: str) -> None:
    """The name of a network interface (spec/networks.md 2, "Names")."""
    if len(value) < 2:
        raise ValueError("Interface name is too short (minimum 2 characters)")
    if len(value) > 15:
        raise ValueError("Interface name is too long (maximum 15 characters)")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
        raise ValueError("Interface name contains invalid characters")


def address(value: str) -> None:
    """An IPv4 or IPv6 address."""
    if not value:
        return
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(f"Not an IP address: {value}") from None


def host_address(version: int) -> Check:
    """A check for an address of a host in CIDR form (`10.0.0.1/24`), not the network's own address."""

    def check(value: str) -> None:
        if not value:
            return
        try:
            parsed = ipaddress.ip_interface(value)
        except ValueError:
            raise ValueError(f"Not an IPv{version} address: {value}") from None
        if parsed.version != version or "/" not in value:
            raise ValueError(f"Not an IPv{version} address: {value}")
        if parsed.ip == parsed.network.network_address and parsed.network.num_addresses > 1:
            raise ValueError(f"Not a usable IPv{version} address: {value}")

    return check


def network_address(version: int) -> Check:
    """A check for the address of a network in CIDR form (`10.0.0.0/8`)."""

    def check(value: str) -> None:
        if not value:
            return
        try:
            parsed = ipaddress.ip_interface(value)
        except ValueError:
            raise ValueError(f"Not an IPv{version} network: {value}") from None
        if parsed.version != version or "/" not in value:
            raise ValueError(f"Not an IPv{version} network: {value}")
        if parsed.ip != parsed.network.network_address:
            raise ValueError(f"Not an IPv{version} network address: {value}")

    return check


def or_words(check: Check, *words: str) -> Check:
    """A check that also takes the given words (`none`, `auto`)."""

    def either(value: str) -> None:
        if value not in words:
            check(value)

    return either
