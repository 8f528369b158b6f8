"""The device type `none`: it hides a device of the same name that a profile gives, and does nothing else."""

from lxdnode.drivers.devices.device import DeviceType

NONE = DeviceType("none", (), start=lambda plug: [])
