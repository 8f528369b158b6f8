"""Who uses what, as the API shows it in `used_by`.

Owns the URL of each kind of user; refuses to record references (drafts do: `Draft.refer`)."""

from collections.abc import Callable, Iterable

from lxdnode.node.containers.records import CONTAINERS
from lxdnode.node.documents import View
from lxdnode.node.profiles.records import PROFILES

_URLS: dict[str, Callable[[View, str], str | None]] = {
    "container": lambda view, id: _named("/1.0/containers/", view.get(CONTAINERS, id)),
    "profile": lambda view, id: _named("/1.0/profiles/", view.get(PROFILES, id)),
}


def _named(prefix: str, record: object) -> str | None:
    return None if record is None else prefix + str(getattr(record, "name"))  # noqa: B009 - any record with a name


def urls(view: View, users: Iterable[str], kinds: Iterable[str] = _URLS) -> list[str]:
    """The URLs of users (`container:ID`) of the given kinds, sorted."""
    wanted = frozenset(kinds)
    found = (_URLS[kind](view, id) for kind, _colon, id in (user.partition(":") for user in users) if kind in wanted)
    return sorted(url for url in found if url is not None)
