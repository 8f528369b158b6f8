"""The server's configuration keys (spec/config-keys.md 2).

Owns which keys exist, their words for a wrong value, and their scope; refuses to act on any."""

import hashlib
import hmac
import secrets
import shutil
from collections.abc import Callable, Mapping

from lxdnode.drivers.config import kinds
from lxdnode.drivers.config.key import Key, Table


def _boolean(value: str) -> None:
    try:
        kinds.boolean(value)
    except ValueError:
        raise ValueError("invalid boolean") from None


def _integer(value: str) -> None:
    try:
        kinds.parse_integer(value)
    except ValueError:
        raise ValueError("invalid integer") from None


def _threshold(value: str) -> None:
    _integer(value)
    # LXD's heartbeat interval is 4 s, and clients know this limit.
    if value and int(value) <= 4:
        raise ValueError("value must be greater than '4'")


def _days(value: str) -> None:
    _integer(value)
    if value and int(value) < 0:
        raise ValueError("value must not be negative")


def _voters(value: str) -> None:
    _integer(value)
    if value and int(value) not in (1, 3, 5, 7):
        raise ValueError("value must be one of 1, 3, 5, 7")


def _compressor(value: str) -> None:
    if value not in ("", "none") and shutil.which(value) is None:
        raise ValueError(f'exec: "{value}": executable file not found in $PATH')


def _own_address(value: str) -> None:
    if value and is_wildcard(with_port(value)):
        raise ValueError("Wildcard addresses aren't allowed")


def _retired(default: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        if value not in ("", default):
            raise ValueError("deprecated: use storage pool configuration")

    return check


_RETIRED = {
    "lvm_fstype": "ext4",
    "lvm_mount_options": "discard",
    "lvm_thinpool_name": "LXDThinPool",
    "lvm_vg_name": "",
    "lvm_volume_size": "10GiB",
    "zfs_pool_name": "",
    "zfs_remove_snapshots": "false",
    "zfs_use_refquota": "false",
}

SERVER_KEYS = Table(
    "unknown key",
    [
        Key("cluster.history_days", _days, "30", live=True, doc="Days for which changes are kept in the history"),
        Key(
            "cluster.https_address",
            _own_address,
            live=True,
            member=True,
            doc="host[:port] for the other members, if not the API's",
        ),
        Key("cluster.max_voters", _voters, "3", live=True, doc="Most members that vote"),
        Key("cluster.offline_threshold", _threshold, "20", live=True, extension="clustering"),
        Key("core.debug_address", live=True, member=True, extension="pprof_http"),
        Key("core.https_address", live=True, member=True, doc="host[:port] of the API over TLS"),
        Key("core.https_allowed_credentials", _boolean, "false", live=True, extension="https_allowed_credentials"),
        Key("core.https_allowed_headers", live=True),
        Key("core.https_allowed_methods", live=True),
        Key("core.https_allowed_origin", live=True),
        Key("core.macaroon.endpoint", live=True, extension="macaroon_authentication"),
        Key("core.proxy_http", live=True),
        Key("core.proxy_https", live=True),
        Key("core.proxy_ignore_hosts", live=True),
        Key("core.trust_password", live=True, doc="Shared secret with which a client adds its certificate"),
        Key("images.auto_update_cached", _boolean, "true", live=True),
        Key("images.auto_update_interval", _integer, "6", live=True, doc="Hours; 0 is never"),
        Key("images.compression_algorithm", _compressor, "gzip", live=True, extension="image_compression_algorithm"),
        Key("images.remote_cache_expiry", _integer, "10", live=True, doc="Days; 0 is never"),
        Key("maas.api.key", live=True, extension="maas_network"),
        Key("maas.api.url", live=True, extension="maas_network"),
        Key("maas.machine", live=True, member=True, extension="maas_network"),
        *(Key(f"storage.{name}", _retired(default), default) for name, default in _RETIRED.items()),
    ],
)
BOOLEAN_KEYS = frozenset({"core.https_allowed_credentials", "images.auto_update_cached"})
ADDRESS_KEYS = frozenset({"cluster.https_address", "core.debug_address", "core.https_address"})
PASSWORD = "core.trust_password"
SECRETS = frozenset({PASSWORD, "maas.api.key"})
"""What the history never shows, not even as a hash."""
ADDRESS = "core.https_address"
CLUSTER_ADDRESS = "cluster.https_address"

_SCRYPT = {"n": 1 << 14, "r": 8, "p": 1, "dklen": 64, "maxmem": 64 << 20}


def hash_password(password: str) -> str:
    """Hex of 32 random bytes and scrypt of the password with them (spec/security.md 4, "Trust password")."""
    salt = secrets.token_bytes(32)
    return (salt + hashlib.scrypt(password.encode(), salt=salt, **_SCRYPT)).hex()


def matches_password(stored: str, password: str) -> bool:
    """Whether a password is the one whose hash is stored. Slow by design (some 40 ms): call it in a thread."""
    raw = bytes.fromhex(stored)
    return hmac.compare_digest(raw[32:], hashlib.scrypt(password.encode(), salt=raw[:32], **_SCRYPT))


def with_port(address: str, default: int = 8443) -> str:
    """`host[:port]` with a port; a bare IPv6 address gets its brackets (spec/security.md 1). "" stays ""."""
    if not address:
        return ""
    if address.startswith("["):
        return address if "]:" in address else f"{address}:{default}"
    if address.count(":") > 1:
        return f"[{address}]:{default}"
    host, colon, port = address.partition(":")
    return f"{host}:{port}" if colon and port else f"{host}:{default}"


def is_wildcard(address: str) -> bool:
    """Whether host:port stands for all addresses of the host."""
    return address.rpartition(":")[0] in ("", "0.0.0.0", "[::]")


def covers(listening: str, address: str) -> bool:
    """Whether who listens on the first host:port is reached at the second one as well."""
    if not is_wildcard(listening):
        return listening == address
    host, _colon, port = address.rpartition(":")
    return listening.rpartition(":")[2] == port and not (listening.startswith("0.0.0.0:") and host.startswith("["))


def normalise(name: str, value: str) -> str:
    """What is stored for a value: booleans as true and false, addresses with a port."""
    if name in BOOLEAN_KEYS:
        return "true" if kinds.is_true(value) else "false"
    return with_port(value) if name in ADDRESS_KEYS else value


def render(config: Mapping[str, str]) -> dict[str, str | bool]:
    """The configuration as GET /1.0 shows it: no defaults, and the password as `true`."""
    shown: dict[str, str | bool] = {}
    for name in sorted(config):
        key = SERVER_KEYS.find(name)
        if key is None or config[name] == key.default:
            continue
        shown[name] = True if name == PASSWORD else config[name]
    return shown
