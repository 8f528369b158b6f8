"""Sets a server up from LXD's preseed (spec/clustering.md 4): config, networks, pools, profiles, then the cluster.

Owns the order and the way back: when a step fails, what the earlier ones did is undone in reverse."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from lxdnode.node.cli.client import ApiError, Client

Preseed = dict[str, Any]


def apply(client: Client, preseed: Preseed) -> None:
    """Carries a preseed out. ApiError with the words of the step that failed; nothing of it stays then."""
    undo: list[Callable[[], object]] = []
    try:
        _apply_config(client, preseed.get("config") or {}, undo)
        for item in preseed.get("networks") or []:
            _apply_object(client, "/1.0/networks", {"type": "bridge", **item}, undo)
        for item in preseed.get("storage_pools") or []:
            _apply_object(client, "/1.0/storage-pools", item, undo)
        for item in preseed.get("profiles") or []:
            _apply_object(client, "/1.0/profiles", item, undo)
        _apply_cluster(client, preseed.get("cluster") or {})
    except ApiError:
        for step in reversed(undo):
            step()
        raise


def _apply_config(client: Client, config: dict[str, Any], undo: list[Callable[[], object]]) -> None:
    if not config:
        return
    before = client.ask("GET", "/1.0")["config"]
    undo.append(lambda: client.ask("PUT", "/1.0", {"config": before}))
    client.ask("PATCH", "/1.0", {"config": {key: _text(value) for key, value in config.items()}})


def _apply_object(client: Client, collection: str, item: dict[str, Any], undo: list[Callable[[], object]]) -> None:
    """Makes an object, or lays the given keys over one that exists."""
    url = f"{collection}/{quote(item['name'], safe='')}"
    wanted = {**item, "config": {key: _text(value) for key, value in (item.get("config") or {}).items()}}
    if not client.exists(url):
        undo.append(lambda: client.ask("DELETE", url))
        try:
            client.ask("POST", collection, wanted)
        except ApiError:
            undo.pop()
            raise
        return
    before = client.ask("GET", url)
    undo.append(lambda: client.ask("PUT", url, before))
    changed = {
        "config": before["config"] | wanted["config"],
        "description": item.get("description", before["description"]),
    }
    if "devices" in before:
        changed["devices"] = before["devices"] | (item.get("devices") or {})
    client.ask("PUT", url, changed)


def _apply_cluster(client: Client, section: dict[str, Any]) -> None:
    """Bootstraps or joins; a server that is clustered already keeps its cluster."""
    if not section.get("enabled") or client.ask("GET", "/1.0/cluster")["enabled"]:
        return
    try:
        client.ask("PUT", "/1.0/cluster", section)
    except ApiError as error:
        raise ApiError(f"Failed to configure cluster: {error}", error.code) from error


def _text(value: object) -> str:
    """YAML's own types as the texts that the API takes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
