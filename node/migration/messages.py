"""The messages on a migration's control socket (spec/migration.md 3), to bytes and back.

Owns what they mean here; refuses to send them. Their form is a table, from which the protobuf library works: generated
code would be a second, unreadable copy of it."""

from dataclasses import dataclass, field
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from lxdnode.drivers.host.idmap import Entry, IdMap
from lxdnode.node.errors import NodeError

RSYNC = 0
"""The one way of sending files that every server understands (MigrationFSType)."""
STATELESS = 2
"""A running container comes without its processes (CRIUType NONE): one more pass over its files follows."""

_FIELDS = {
    "MigrationHeader": "1 fs int32!, 2 criu int32, 3 idmap IDMapType*, 4 snapshotNames string*, 5 snapshots Snapshot*, "
    "7 predump bool, 8 rsyncFeatures RsyncFeatures",
    "RsyncFeatures": "1 xattrs bool, 2 delete bool, 3 compress bool",
    "IDMapType": "1 isuid bool!, 2 isgid bool!, 3 hostid int32!, 4 nsid int32!, 5 maprange int32!",
    "Config": "1 key string!, 2 value string!",
    "Device": "1 name string!, 2 config Config*",
    "Snapshot": "1 name string!, 2 localConfig Config*, 3 profiles string*, 4 ephemeral bool!, 5 localDevices Device*, "
    "6 architecture int32!, 7 stateful bool!, 8 creation_date int64, 9 last_used_date int64",
    "MigrationControl": "1 success bool!, 2 message string",
}
"""Each field: number, name, type; `!` is required, `*` repeated. Enums have the form of int32 on the wire. The features
of rsync came after the level (seen on LXD 5.0.2's wire); one that is told of none takes them all as wanted."""


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that comes along. `architecture`: LXD's number. Dates are Unix seconds."""

    name: str
    config: dict[str, str] = field(default_factory=dict)
    devices: dict[str, dict[str, str]] = field(default_factory=dict)
    profiles: list[str] = field(default_factory=list)
    ephemeral: bool = False
    architecture: int = 0
    created_at: int = 0
    last_used_at: int = 0
    stateful: bool = False


@dataclass(frozen=True)
class Header:
    """What each side says first. `criu` is None for a container that is stopped. `idmap`: the ids on the source's
    disk. `features`: what rsync does beyond the level: `xattrs`, `delete`, `compress`."""

    fs: int = RSYNC
    criu: int | None = None
    idmap: IdMap = ()
    snapshots: tuple[Snapshot, ...] = ()
    features: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Verdict:
    """How a side fared: the sink at its end, either side when it gives up."""

    success: bool
    message: str = ""


def encode_header(header: Header) -> bytes:
    """The MigrationHeader of either side."""
    message = _new("MigrationHeader", fs=header.fs, predump=False)
    if header.criu is not None:
        message.criu = header.criu
    message.rsyncFeatures.SetInParent()  # Also when there are none: that says so.
    for feature in header.features:
        setattr(message.rsyncFeatures, feature, True)
    for entry in header.idmap:
        message.idmap.add(
            isuid=entry.Isuid, isgid=entry.Isgid, hostid=entry.Hostid, nsid=entry.Nsid, maprange=entry.Maprange
        )
    message.snapshotNames.extend(snapshot.name for snapshot in header.snapshots)
    for snapshot in header.snapshots:
        _add(message.snapshots.add(), snapshot)
    return bytes(message.SerializeToString())


def _add(message: Any, snapshot: Snapshot) -> None:
    message.name, message.ephemeral, message.architecture = snapshot.name, snapshot.ephemeral, snapshot.architecture
    message.creation_date, message.last_used_date = snapshot.created_at, snapshot.last_used_at
    message.stateful = snapshot.stateful
    message.profiles.extend(snapshot.profiles)
    for key, value in snapshot.config.items():
        message.localConfig.add(key=key, value=value)
    for name, device in snapshot.devices.items():
        entry = message.localDevices.add(name=name)
        for key, value in device.items():
            entry.config.add(key=key, value=value)


def decode_header(data: bytes) -> Header:
    """A MigrationHeader; fields of newer levels are ignored. NodeError when it is none."""
    message = _parse("MigrationHeader", data)
    idmap = tuple(
        Entry(one.isuid, one.isgid, Hostid=one.hostid, Nsid=one.nsid, Maprange=one.maprange) for one in message.idmap
    )
    return Header(
        fs=message.fs,
        criu=message.criu if message.HasField("criu") else None,
        idmap=idmap,
        snapshots=_snapshots(message),
        features=frozenset(one.name for one, on in message.rsyncFeatures.ListFields() if on),
    )


def _snapshots(message: Any) -> tuple[Snapshot, ...]:
    """Very old peers send names alone."""
    if len(message.snapshots) != len(message.snapshotNames):
        return tuple(Snapshot(name) for name in message.snapshotNames)
    return tuple(_snapshot(one) for one in message.snapshots)


def _snapshot(message: Any) -> Snapshot:
    return Snapshot(
        name=message.name,
        config={one.key: one.value for one in message.localConfig},
        devices={one.name: {pair.key: pair.value for pair in one.config} for one in message.localDevices},
        profiles=list(message.profiles),
        ephemeral=message.ephemeral,
        architecture=message.architecture,
        created_at=message.creation_date,
        stateful=message.stateful,
        last_used_at=message.last_used_date,
    )


def encode_verdict(verdict: Verdict) -> bytes:
    """The MigrationControl of a side."""
    return bytes(_new("MigrationControl", success=verdict.success, message=verdict.message).SerializeToString())


def decode_verdict(data: bytes) -> Verdict:
    """A MigrationControl. NodeError when it is none."""
    message = _parse("MigrationControl", data)
    return Verdict(message.success, message.message)


def _new(name: str, **fields: Any) -> Any:
    return _classes[f"lxdnode.{name}"](**fields)


def _parse(name: str, data: bytes) -> Any:
    message = _new(name)
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise NodeError(f"The other server sent no {name}: {error}") from None
    if not message.IsInitialized():
        raise NodeError(f"The other server sent no whole {name}")
    return message


def _build() -> dict[str, Any]:
    """The library's classes of the table, by full name."""
    file = descriptor_pb2.FileDescriptorProto(name="lxdnode/migration.proto", package="lxdnode", syntax="proto2")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field_ in fields.split(", "):
            _declare(message, *field_.split())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {f"lxdnode.{name}": _class(pool, name) for name in _FIELDS}


def _class(pool: descriptor_pool.DescriptorPool, name: str) -> Any:
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"lxdnode.{name}"))


def _declare(message: descriptor_pb2.DescriptorProto, number: str, name: str, kind: str) -> None:
    form = descriptor_pb2.FieldDescriptorProto
    scalars = {"bool": form.TYPE_BOOL, "int32": form.TYPE_INT32, "int64": form.TYPE_INT64, "string": form.TYPE_STRING}
    label = {"!": form.LABEL_REQUIRED, "*": form.LABEL_REPEATED}.get(kind[-1], form.LABEL_OPTIONAL)
    found = message.field.add(name=name, number=int(number), label=label)
    if scalar := scalars.get(kind.rstrip("!*")):
        found.type = scalar
    else:
        found.type, found.type_name = form.TYPE_MESSAGE, f".lxdnode.{kind.rstrip('!*')}"


_classes = _build()
