"""`index.yaml` and `backup.yaml`: what a backup says of its container (spec/containers.md 12).

Owns both texts, written as LXD 5.0 reads them and read as LXD 3.3 and 5.0 write them; refuses to touch files."""

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import yaml

from lxdnode.drivers.config import plain_yaml
from lxdnode.drivers.config.kinds import is_true
from lxdnode.node.containers import snapshot_rules
from lxdnode.node.containers.expansion import Devices, Expanded
from lxdnode.node.containers.records import Snapshot
from lxdnode.node.documents import View
from lxdnode.node.errors import Invalid
from lxdnode.node.storage.records import Pool

T = TypeVar("T", bound=msgspec.Struct)
_NULL = ("null", "~", "")


class Saved(msgspec.Struct):
    """A container, or a snapshot, as it was saved; of a snapshot's name the last part counts."""

    name: str = ""
    architecture: str = ""
    description: str = ""
    ephemeral: bool = False
    config: dict[str, str] = {}
    devices: Devices = {}
    profiles: list[str] = []
    created_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    last_used_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    stateful: bool = False


class Description(msgspec.Struct):
    """`backup.yaml`; `instance` is how newer servers call the container."""

    container: Saved | None = None
    instance: Saved | None = None
    snapshots: list[Saved] = []


class Index(msgspec.Struct):
    """`index.yaml`. `optimized`: streams of the storage driver instead of files. `config`: what backup.yaml says."""

    name: str = ""
    backend: str = ""
    pool: str = ""
    snapshots: list[str] = []
    optimized: bool = False
    config: Description | None = None


def read_index(text: bytes) -> Index:
    """Invalid for what is none."""
    return _decode(text, Index, "index.yaml")


def read_description(text: bytes) -> Description:
    """Invalid for what is none."""
    return _decode(text, Description, "backup.yaml")


def _decode(text: bytes, kind: type[T], name: str) -> T:
    try:
        return msgspec.convert(_without_nulls(plain_yaml.load(text)), kind, strict=False)
    except (yaml.YAMLError, msgspec.ValidationError, RecursionError) as error:
        raise Invalid(f"Could not parse the backup's {name}: {error}") from None


def _without_nulls(document: Any) -> Any:
    """Records without the fields that have no value; the maps `config` and `devices` of free keys stay as they are."""
    if isinstance(document, list):
        return [_without_nulls(one) for one in document]
    if not isinstance(document, dict) or ("config" not in document and "name" not in document):
        is_description = isinstance(document, dict) and document.keys() & {"container", "instance"}
        return {key: _without_nulls(value) for key, value in document.items()} if is_description else document
    found = {key: value for key, value in document.items() if value not in _NULL}
    nested = {key: _without_nulls(found[key]) for key in ("config", "snapshots") if key in found}
    return found | nested


def write(view: View, found: Expanded, snapshots: list[Snapshot], pool: Pool, location: str) -> tuple[bytes, bytes]:
    """The texts of index.yaml and backup.yaml. `location`: the member's name."""
    description = {
        "container": _container(found, location),
        "snapshots": [_snapshot(view, found.id, one) for one in snapshots],
        "pool": _pool(pool),
        "volume": _volume(found.name, location),
    }
    index = {
        "name": found.name,
        "backend": pool.driver,
        "privileged": is_true(found.config.get("security.privileged")),
        "pool": found.container.pool,
        **({"snapshots": [one.name for one in snapshots]} if snapshots else {}),
        "optimized": False,
        "type": "container",
    }
    return _encode(index), _encode(description)


def _encode(document: dict[str, Any]) -> bytes:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()


def _fields(found: Expanded) -> dict[str, Any]:
    """What a container and a snapshot have in common."""
    return {
        "architecture": found.container.architecture,
        "config": dict(found.local),
        "devices": _copied(found.container.devices),
        "ephemeral": found.container.ephemeral,
        "profiles": list(found.profiles),
        "stateful": found.status.stateful,
        "description": found.container.description,
        "created_at": _time(found.container.created_at),
        "last_used_at": _time(found.status.last_used_at),
        "expanded_config": dict(found.config),
        "expanded_devices": _copied(found.devices),
    }


def _container(found: Expanded, location: str) -> dict[str, Any]:
    state = {"status": "Stopped", "status_code": 102, "location": location, "type": "container"}
    return {"name": found.name, **_fields(found), **state}


def _snapshot(view: View, container: str, snapshot: Snapshot) -> dict[str, Any]:
    return {"name": snapshot.name, **_fields(snapshot_rules.as_container(view, container, snapshot))}


def _pool(pool: Pool) -> dict[str, Any]:
    return {
        "config": dict(pool.config),
        "description": pool.description,
        "name": pool.name,
        "driver": pool.driver,
        "used_by": [],
        "status": "Created",
    }


def _volume(name: str, location: str) -> dict[str, Any]:
    fields = {"config": {}, "description": "", "name": name, "type": "container", "used_by": []}
    return fields | {"location": location, "content_type": "filesystem"}


def _copied(devices: Devices) -> Devices:
    """Apart from one another: YAML would write what occurs twice as an alias."""
    return {name: dict(device) for name, device in devices.items()}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
