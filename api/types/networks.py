"""Bodies of /1.0/networks (spec/rest.md 7)."""

import msgspec


class NetworksPost(msgspec.Struct):
    """POST /1.0/networks. `managed` is what clients send along; it is not looked at."""

    name: str = ""
    type: str = ""
    description: str = ""
    config: dict[str, str] = {}
    managed: bool = True


class NetworkPut(msgspec.Struct):
    """PUT replaces both; PATCH merges config by key, and keeps what is absent (None)."""

    description: str | None = None
    config: dict[str, str] | None = None


class NetworkPost(msgspec.Struct):
    """Rename."""

    name: str = ""


class Network(msgspec.Struct):
    """A network, or an interface of the answering host (then not managed, without config)."""

    config: dict[str, str]
    description: str
    name: str
    type: str
    used_by: list[str]
    managed: bool
    status: str
    locations: list[str] | None


class Address(msgspec.Struct):
    """An address of an interface; `netmask` is the prefix length as text."""

    family: str
    address: str
    netmask: str
    scope: str


class Counters(msgspec.Struct):
    """What an interface has carried."""

    bytes_received: int
    bytes_sent: int
    packets_received: int
    packets_sent: int


class NetworkState(msgspec.Struct):
    """How an interface of the answering host is."""

    addresses: list[Address]
    counters: Counters
    hwaddr: str
    mtu: int
    state: str
    type: str


class Lease(msgspec.Struct):
    """A lease; `type` is static or dynamic."""

    hostname: str
    hwaddr: str
    address: str
    type: str
