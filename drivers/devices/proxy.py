"""Proxies between host and container (spec/config-keys.md 6, "proxy")."""

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.config.kinds import boolean
from lxdnode.drivers.devices.device import Device, DeviceType


def _check(device: Device) -> None:
    for name in ("listen", "connect"):
        if not device.get(name):
            raise ValueError(f'Proxy device entry is missing the required "{name}" property.')
    if device.get("bind", "") not in ("", "host", "container"):
        raise ValueError('Invalid binding side given. Must be "host" or "container".')


PROXY = DeviceType(
    "proxy",
    (
        Key("listen"),
        Key("connect"),
        Key("bind", default="host"),
        Key("uid"),
        Key("gid"),
        Key("mode"),
        Key("nat", boolean, "false"),
        Key("proxy_protocol", boolean, "false"),
        Key("security.uid", default="0", extension="unix_priv_drop"),
        Key("security.gid", default="0", extension="unix_priv_drop"),
    ),
    _check,
)
